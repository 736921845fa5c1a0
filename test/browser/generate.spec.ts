import { chooseFolder, expect, generateInNode, openPage, test, tinyLlama, write } from "./support/page_test.ts";

for (const tier of ["core", "subgroups"] as const) {
  test.describe(`the page on tier ${tier}`, () => {
    test("writes the tokens that Node writes, greedily and from a seed", async ({ page, home }) => {
      await openPage(page, home, tier);
      await chooseFolder(page, tinyLlama());
      const prompt = "Once upon a time";
      const common = ["--model", tinyLlama(), "--tier", tier, "--max-tokens", "40"];
      const greedy = await write(page, { prompt, maxTokens: 40 });
      expect(greedy).toBe((await generateInNode([...common, "--greedy", prompt])).text);
      const drawn = await write(page, { prompt, maxTokens: 40, seed: 7 });
      const expected = await generateInNode([...common, "--temperature", "0.8", "--seed", "7", prompt]);
      expect(drawn).toBe(expected.text);
      expect(drawn).not.toBe(greedy);
    });
  });
}
