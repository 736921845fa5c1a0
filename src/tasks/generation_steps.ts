import { HeedError } from "../core/errors.ts";
import type { RunOptions, RunResult } from "../inspect/run.ts";
import type { TappedValue } from "../inspect/taps.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** How a step is looked at. */
export interface StepOptions {
  /** Likeliest next tokens to list; default 5. */
  readonly candidates?: number;
  /** `hard`: the key with the largest score takes all the weight of cross-attention. Default `soft`. */
  readonly selection?: "soft" | "hard";
  readonly signal?: AbortSignal;
}

/** A token with what it looks like. */
export interface StepToken {
  readonly id: number;
  /** The tokenizer's piece, such as `▁the`, or the id where there is no tokenizer. */
  readonly piece: string;
}

/** What a decoder does between one token and the next. */
export interface GenerationStep {
  /** What the encoder has read. */
  readonly source: readonly StepToken[];
  /** What the decoder has read, its start token first. */
  readonly target: readonly StepToken[];
  /** The likeliest next tokens, by falling probability. */
  readonly candidates: readonly (StepToken & { readonly probability: number })[];
  /** Cross-attention of the newest token: `[layers][heads]` of weights over the source's tokens, which add up to 1. */
  readonly attention: readonly (readonly Float32Array[])[];
}

/** What {@link generationStep} works with. */
export interface StepParts {
  readonly sourceIds: readonly number[];
  readonly targetIds: readonly number[];
  readonly layers: number;
  readonly sourceTokenizer: Tokenizer | undefined;
  readonly targetTokenizer: Tokenizer | undefined;
  run(options: RunOptions): Promise<RunResult>;
}

/** One step of a generation, laid open: it depends on the ids alone, so any token may be chosen for the next. Throws `USAGE`. */
export async function generationStep(parts: StepParts, options: StepOptions = {}): Promise<GenerationStep> {
  const { candidates = 5, selection = "soft", signal } = options;
  if (!Number.isInteger(candidates) || candidates < 1) {
    throw new HeedError("USAGE", `step: candidates must be a whole number from 1; got ${candidates}.`);
  }
  if (selection !== "soft" && selection !== "hard") {
    throw new HeedError("USAGE", `step: selection must be soft or hard; got ${String(selection)}.`);
  }
  const names = Array.from({ length: parts.layers }, (_, layer) => `block.${layer}.cross_attention.probs`);
  const hard = selection === "hard" ? (["memory"] as const) : [];
  const { logits, values } = await parts.run({ capture: names, logits: "last", hard, signal });
  const pieceOf = (tokenizer: Tokenizer | undefined) => (id: number) => ({
    id,
    piece: tokenizer?.idToToken(id) ?? String(id),
  });
  const target = pieceOf(parts.targetTokenizer);
  const best = likeliest(logits?.[0] ?? new Float32Array(), candidates);
  return {
    source: parts.sourceIds.map(pieceOf(parts.sourceTokenizer)),
    target: parts.targetIds.map(target),
    candidates: best.map(({ id, probability }) => ({ ...target(id), probability })),
    attention: names.map((name) => lastRows(values[name])),
  };
}

/** The last query's row of each head, of `[1, H, T, S]`. */
function lastRows(value: TappedValue | undefined): Float32Array[] {
  const [, heads = 0, rows = 0, keys = 0] = value?.shape ?? [];
  return Array.from({ length: heads }, (_, h) => {
    const start = (h * rows + rows - 1) * keys;
    return value?.data.slice(start, start + keys) ?? new Float32Array();
  });
}

/** The likeliest tokens and their softmax over all, by falling probability. */
function likeliest(logits: Float32Array, count: number): { id: number; probability: number }[] {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Array.from(logits, (x) => Math.exp(x - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights
    .map((weight, id) => ({ id, probability: weight / sum }))
    .sort((a, b) => b.probability - a.probability || a.id - b.id)
    .slice(0, count);
}
