import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Source } from "../../src/core/source.ts";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { readJson, withAssets } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { type GgufFieldToWrite, llamaMetadata, writeGguf } from "../support/gguf.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";
import { tolerance } from "../support/tolerances.ts";
import { type GgufMatrixType, ggufTensors } from "../support/to_gguf.ts";

interface Story {
  prompt: string;
  ids: number[];
  greedy_ids: number[];
  greedy_text: string;
}

/** stories260K, which is in `folder`, as llama.cpp's converter would write it. */
async function storiesGguf(folder: string, matrices: GgufMatrixType): Promise<Blob> {
  const checkpoint = await openCheckpoint(await folderSource(folder));
  const { config } = checkpoint;
  const tokenizer = readJson<{ model: { vocab: Record<string, number>; merges: (string | string[])[] } }>(
    join(folder, "tokenizer.json"),
  );
  const vocab = Object.entries(tokenizer.model.vocab).sort((a, b) => a[1] - b[1]);
  const tokens = vocab.map(([piece]) => piece);
  const ranks = new Map(
    tokenizer.model.merges.map((merge, rank) => [
      typeof merge === "string" ? merge.replace(" ", "") : merge.join(""),
      rank,
    ]),
  );
  const type = (piece: string, id: number) => (id === 0 ? 2 : id < 3 ? 3 : /^<0x..>$/.test(piece) ? 6 : 1);
  const metadata: Record<string, GgufFieldToWrite> = {
    ...llamaMetadata(config),
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": { f32s: tokens.map((piece) => -(ranks.get(piece) ?? 1000)) },
    "tokenizer.ggml.token_type": { i32s: tokens.map(type) },
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.chat_template": "{{ messages[0].content }}",
  };
  return new Blob([writeGguf(metadata, await ggufTensors(checkpoint, "llama", matrices))]);
}

const NEEDED = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"] as const;

/** What GGUF has no words for, as all published models have it: Gemma's scale of queries and order of windows, Qwen without any. */
const PUBLISHED: Readonly<Record<string, Record<string, unknown>>> = {
  gemma2: { query_pre_attn_scalar: 16 },
  gemma3: { query_pre_attn_scalar: 16, sliding_window_pattern: 6 },
  qwen3: { use_sliding_window: false, sliding_window: null, layer_types: null },
};

/** The metadata that llama.cpp's converter writes of a config. */
function metadataOf(arch: string, config: Readonly<Record<string, unknown>>): Record<string, GgufFieldToWrite> {
  const number = (...keys: string[]) =>
    Number(keys.map((key) => config[key]).find((value) => value !== undefined && value !== null));
  const width = number("hidden_size", "n_embd");
  const fields: Record<string, GgufFieldToWrite | undefined> = {
    context_length: number("max_position_embeddings", "n_positions"),
    embedding_length: width,
    block_count: number("num_hidden_layers", "n_layer"),
    feed_forward_length: arch === "gpt2" ? Number(config["n_inner"] ?? 4 * width) : number("intermediate_size"),
    "attention.head_count": number("num_attention_heads", "n_head"),
    "attention.head_count_kv": config["num_key_value_heads"] as number | undefined,
    "attention.key_length": config["head_dim"] as number | undefined,
    "attention.layer_norm_rms_epsilon": arch === "gpt2" ? undefined : { f32: number("rms_norm_eps") },
    "attention.layer_norm_epsilon": arch === "gpt2" ? { f32: number("layer_norm_epsilon") } : undefined,
    "rope.freq_base": arch === "gpt2" ? undefined : { f32: ropeBase(config) },
    "rope.dimension_count":
      arch === "phi3"
        ? (width / number("num_attention_heads")) * Number(config["partial_rotary_factor"] ?? 1)
        : undefined,
    "attention.sliding_window":
      arch.startsWith("gemma") || arch === "phi3" ? (config["sliding_window"] as number | undefined) : undefined,
    attn_logit_softcapping: capOf(config["attn_logit_softcapping"]),
    final_logit_softcapping: capOf(config["final_logit_softcapping"]),
  };
  const known = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null) as [
    string,
    GgufFieldToWrite,
  ][];
  return {
    "general.architecture": arch,
    ...Object.fromEntries(known.map(([key, value]) => [`${arch}.${key}`, value])),
  };
}

function capOf(value: unknown): GgufFieldToWrite | undefined {
  return typeof value === "number" ? { f32: value } : undefined;
}

function ropeBase(config: Readonly<Record<string, unknown>>): number {
  const parameters = config["rope_parameters"] as Record<string, unknown> | undefined;
  const full = parameters?.["full_attention"] as Record<string, unknown> | undefined;
  return Number(full?.["rope_theta"] ?? parameters?.["rope_theta"] ?? config["rope_theta"] ?? 10000);
}

await describeOnTiers("checkpoints of transformers as GGUF", (engine) => {
  it.each(NEEDED)("%s gives the logits of the Hub's files", async (arch) => {
    const name = arch === "llama" ? "llama_gqa" : arch;
    const hub = await openCheckpoint(await folderSource(goldenPath(name)));
    const config = { ...hub.config, ...PUBLISHED[arch] };
    const weights = new Blob([readFileSync(join(goldenPath(name), "model.safetensors"))]);
    const files = new Map([
      ["config.json", new Blob([JSON.stringify(config)])],
      ["model.safetensors", weights],
    ]);
    const bytes = writeGguf(metadataOf(arch, config), await ggufTensors(hub, arch, "f32"));
    const ids = readGolden(name)[1]?.ids ?? [];
    const logits = async (source: Source): Promise<Float32Array> => {
      const model = await engine().load(source);
      try {
        return Float32Array.from((await model.logits(ids)).flatMap((row) => [...row]));
      } finally {
        await model.dispose();
      }
    };
    const expected = await logits(filesSource(files));
    const got = await logits(filesSource(new Map([["golden.gguf", new Blob([bytes])]])));
    assertClose(got, Float64Array.from(expected), {
      ...tolerance("f32", "logits"),
      label: arch,
      shape: [ids.length, expected.length / ids.length],
    });
  });
});

await withAssets("stories260K as GGUF", "models/stories260K", (folder) =>
  describeOnTiers("stories260K as GGUF", (engine) => {
    const stories = readJson<Story[]>(join(folder, "expected.json"));
    describe.each(["f16", "q8_0"] as const)("%s", (matrices) => {
      let model: TextModel;
      beforeAll(async () => {
        model = await engine().load(filesSource(new Map([["stories.gguf", await storiesGguf(folder, matrices)]])));
      });
      afterAll(() => model?.dispose());

      it("has the tokenizer", () => {
        for (const { prompt, ids } of stories) expect(model.tokenizer?.encode(prompt)).toEqual(ids);
      });

      it("tells the same story for 50 tokens", async () => {
        const story = stories[1] as Story;
        const { ids, text } = await model.generate(story.prompt, { greedy: true, maxTokens: 50 }).result;
        expect(ids.generated).toEqual(story.greedy_ids.slice(0, 50));
        expect(story.greedy_text.startsWith(story.prompt + text)).toBe(true);
      });
    });

    it("is quantised while it is read", async () => {
      const story = stories[1] as Story;
      const model = await engine().load(folder, { dtype: "q8_0" });
      try {
        const { ids } = await model.generate(story.prompt, { greedy: true, maxTokens: 50 }).result;
        expect(ids.generated).toEqual(story.greedy_ids.slice(0, 50));
      } finally {
        await model.dispose();
      }
    });
  }),
);
