import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { assetsPath, readJson } from "../support/assets.ts";
import { describeOnTiers } from "../support/devices.ts";
import { type GgufFieldToWrite, writeGguf } from "../support/gguf.ts";
import { type GgufMatrixType, ggufTensors } from "../support/to_gguf.ts";

interface Story {
  prompt: string;
  ids: number[];
  greedy_ids: number[];
  greedy_text: string;
}

const root = assetsPath();
const folder = join(root ?? "", "models/stories260K");

/** stories260K as llama.cpp's converter would write it. */
async function storiesGguf(matrices: GgufMatrixType): Promise<Blob> {
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
  const number = (key: string) => Number(config[key]);
  const metadata: Record<string, GgufFieldToWrite> = {
    "general.architecture": "llama",
    "llama.context_length": number("max_position_embeddings"),
    "llama.embedding_length": number("hidden_size"),
    "llama.block_count": number("num_hidden_layers"),
    "llama.feed_forward_length": number("intermediate_size"),
    "llama.attention.head_count": number("num_attention_heads"),
    "llama.attention.head_count_kv": number("num_key_value_heads"),
    "llama.attention.layer_norm_rms_epsilon": { f32: number("rms_norm_eps") },
    "llama.rope.freq_base": { f32: 10000 },
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

if (root) {
  await describeOnTiers("stories260K as GGUF", (engine) => {
    const stories = readJson<Story[]>(join(folder, "expected.json"));
    describe.each(["f16", "q8_0"] as const)("%s", (matrices) => {
      let model: TextModel;
      beforeAll(async () => {
        model = await engine().load(filesSource(new Map([["stories.gguf", await storiesGguf(matrices)]])));
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
  });
} else {
  describe("stories260K as GGUF", () => it.skip("needs the asset models/stories260K: set HEED_ASSETS", () => {}));
}
