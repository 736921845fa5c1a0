import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { type AssetArray, assetsPath, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { tolerance } from "../support/tolerances.ts";

interface Story {
  prompt: string;
  ids: number[];
  greedy_ids: number[];
  greedy_text: string;
  logits: AssetArray;
}

const ASSET = "models/stories260K";

const root = assetsPath();
if (root) {
  await describeOnTiers("stories260K", (engine) => {
    const folder = join(root, ASSET);
    const stories = readJson<Story[]>(join(folder, "expected.json"));
    let model: TextModel;
    beforeAll(async () => {
      model = await engine().load(folder);
    });
    afterAll(async () => {
      await model?.dispose();
    });

    it("encodes every prompt to the expected ids", () => {
      for (const s of stories) expect(model.tokenizer?.encode(s.prompt)).toEqual(s.ids);
    });

    it("computes the expected logits of every prompt", async () => {
      for (const s of stories) {
        const logits = await model.logits(s.ids);
        const flat = Float32Array.from(logits.flatMap((row) => [...row]));
        assertClose(flat, decodeArray(s.logits), {
          ...tolerance("f32", "logits"),
          label: s.prompt,
          shape: s.logits.shape,
        });
      }
    });

    it("writes all 200 greedy tokens of a prompt, alone and with the cache", async () => {
      const s = stories[1] as Story;
      const { ids, text, finish } = await model.generate(s.prompt, { greedy: true, maxTokens: 200 }).result;
      expect(ids.generated).toEqual(s.greedy_ids);
      expect(s.prompt + text).toBe(s.greedy_text);
      expect(finish).toBe("length");
    });

    it("writes the same tokens in a ragged batch of five", async () => {
      const results = await Promise.all(
        stories.map((s) => model.generate(s.ids, { greedy: true, maxTokens: 200 }).result),
      );
      results.forEach((r, i) => {
        expect(r.ids.generated).toEqual(stories[i]?.greedy_ids);
      });
    });

    it("writes the same tokens when everything is computed again for each", async () => {
      const s = stories[2] as Story;
      const ids = [...s.ids];
      for (let i = 0; i < 40; i++) {
        const last = (await model.logits(ids)).at(-1) as Float32Array;
        ids.push(last.indexOf(Math.max(...last)));
      }
      expect(ids.slice(s.ids.length)).toEqual(s.greedy_ids.slice(0, 40));
    });
  });
} else {
  describeWithAssets("stories260K", ASSET, () => {});
}
