import { expect } from "vitest";
import { filesSource } from "../../src/sources/files.ts";
import type { ModelFiles, Training } from "../../src/train/training.ts";
import type { Source } from "../../src/core/source.ts";

/** A text that a tiny model learns from quickly. */
export const TINY_TEXT = "the cat sat on the mat and the dog sat on the log.\n".repeat(40);

/** A recipe of a tiny GPT-2 on {@link TINY_TEXT}. */
export const TINY_RECIPE = {
  task: "language-model" as const,
  model: {
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    n_layer: 2,
    n_head: 2,
    n_embd: 16,
    n_positions: 16,
    bos_token_id: null,
    eos_token_id: null,
  },
  tokenizer: { type: "characters", unknown: "" },
  data: { text: "text.txt" },
  batch: 4,
  length: 12,
  steps: 12,
  optimizer: { type: "adamw", weightDecay: 0.1 },
  schedule: { type: "cosine", learningRate: 0.01, warmup: 3 },
  seed: 5,
  output: "out",
};

/** A recipe of a tiny 2017 transformer on a few pairs. */
export const TINY_TRANSLATION = {
  task: "translation" as const,
  model: {
    model_type: "transformer",
    d_model: 16,
    encoder_layers: 1,
    decoder_layers: 1,
    encoder_attention_heads: 2,
    decoder_attention_heads: 2,
    encoder_ffn_dim: 16,
    decoder_ffn_dim: 16,
    max_position_embeddings: 16,
    decoder_start_token_id: 1,
  },
  initialise: { scheme: "xavier" },
  tokenizer: { type: "characters", special: ["<pad>", "</s>", "<unk>"], end: "</s>" },
  data: { source: "source.txt", target: "target.txt" },
  batch: 4,
  length: 16,
  steps: 6,
  optimizer: { type: "adam", beta2: 0.98 },
  schedule: { type: "inverse_sqrt", learningRate: 0.01, warmup: 3 },
  labelSmoothing: 0.1,
  dropout: { hidden: 0.1 },
  seed: 5,
  output: "out",
};

/** The files that the tiny recipes name. */
export async function readTinyText(path: string): Promise<string> {
  const numbers = Array.from({ length: 13 }, (_, i) => i * i * 37);
  if (path === "source.txt") return numbers.map((n) => `${n}\n`).join("");
  if (path === "target.txt") return numbers.map((n) => `${[...String(n)].reverse().join("")}\n`).join("");
  return TINY_TEXT;
}

/** What a training gave, as a place to load from. */
export function sourceOf(files: ModelFiles): Source {
  return filesSource(
    new Map(
      [...files].map(([name, chunks]) => [
        name,
        new Blob(typeof chunks === "string" ? [chunks] : [...chunks].map((c) => c as Uint8Array<ArrayBuffer>)),
      ]),
    ),
  );
}

/** The losses of a training's next updates, all of them or so many. */
export async function losses(training: Training, most = Number.POSITIVE_INFINITY): Promise<number[]> {
  const all: number[] = [];
  for await (const { loss } of training) {
    all.push(loss);
    if (all.length === most) break;
  }
  return all;
}

/** Holds a training that goes on from a checkpoint after four updates to one that was never cut: the same losses and files, bit for bit. */
export async function expectToResume(open: (from?: Source) => Promise<Training>): Promise<void> {
  const whole = await open();
  const expected = await losses(whole);
  const expectedFiles = await whole.files();
  await whole.dispose();
  const first = await open();
  const before = await losses(first, 4);
  const checkpoint = sourceOf(await first.checkpoint());
  await first.dispose();
  const second = await open(checkpoint);
  expect([...before, ...(await losses(second))]).toEqual(expected);
  expect(await second.files()).toEqual(expectedFiles);
  await second.dispose();
}
