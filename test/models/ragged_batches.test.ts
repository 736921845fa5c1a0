import { expect, it } from "vitest";
import { describeOnTiers } from "../support/devices.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";

/** Families whose masks, biases or norms might reach from one row of a batch into another. */
const NAMES = ["gemma2", "gemma3", "bloom", "glm"] as const;

await describeOnTiers("prompts of unequal length generated at once", (engine) => {
  it.each(NAMES)("%s: equal each alone, and transformers", async (name) => {
    const model = await engine().load(goldenPath(name));
    try {
      const goldens = readGolden(name);
      const lengths = new Set(goldens.map(({ ids }) => ids.length));
      expect(lengths.size).toBe(2);
      const tell = (ids: number[]) => model.generate(ids, { greedy: true, maxTokens: 12 }).result;
      const alone: (readonly number[])[] = [];
      for (const { ids } of goldens) alone.push((await tell(ids)).ids.generated);
      const together = await Promise.all(goldens.map(({ ids }) => tell(ids)));
      expect(together.map((r) => r.ids.generated)).toEqual(alone);
      expect(alone).toEqual(goldens.map(({ greedy }) => greedy.slice(0, 12)));
    } finally {
      await model.dispose();
    }
  });
});
