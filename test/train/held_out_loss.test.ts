import { expect, it } from "vitest";
import { Training } from "../../src/train/training.ts";
import { describeOnDevice } from "../support/devices.ts";
import { losses, readTinyText, TINY_RECIPE, TINY_TRANSLATION } from "./tiny.ts";

describeOnDevice("the held-out loss", (device) => {
  it.each([
    ["a language model", { ...TINY_RECIPE, data: { ...TINY_RECIPE.data, validationShare: 0.2 } }],
    [
      "a translator",
      {
        ...{ ...TINY_TRANSLATION, dropout: {} },
        data: { ...TINY_TRANSLATION.data, validationSource: "source.txt", validationTarget: "target.txt" },
      },
    ],
  ])("of %s is the same with labels smoothed in training, whose own loss is not", async (_, recipe) => {
    const run = async (labelSmoothing: number) => {
      const training = await Training.open(device(), { ...recipe, labelSmoothing }, { readText: readTinyText });
      const held = await training.evaluate();
      const [first] = await losses(training, 1);
      await training.dispose();
      return { held, first };
    };
    const [plain, smoothed] = [await run(0), await run(0.3)];
    expect(plain.held).toBeGreaterThan(0);
    expect(smoothed.held).toBe(plain.held);
    expect(smoothed.first).not.toBe(plain.first);
  });
});
