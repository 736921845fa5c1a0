import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, generateInNode, openOpsPage, openPage, chooseFolder, test, write } from "./support/page_test.ts";
import { modelAsset } from "./support/model_asset.ts";

interface Story {
  prompt: string;
  ids: number[];
  greedy_ids: number[];
  greedy_text: string;
}

const { folder, missing } = modelAsset("stories260K");

for (const tier of ["core", "subgroups"] as const) {
  test.describe(`stories260K on tier ${tier}`, () => {
    test.skip(folder === undefined, missing);
    const stories = folder ? (JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as Story[]) : [];

    test("writes all 200 greedy tokens through the page", async ({ page, home }) => {
      const story = stories[1] as Story;
      await openPage(page, home, tier);
      await chooseFolder(page, folder as string);
      const text = await write(page, { prompt: story.prompt, maxTokens: 200 });
      expect(story.prompt + text).toBe(story.greedy_text);
      await expect(page.getByTestId("tokens")).toHaveText("200 tokens");
    });

    test("writes all 200 greedy tokens through the public API, which are Node's", async ({ page, server }) => {
      const story = stories[2] as Story;
      await openOpsPage(page, server);
      const generated = await page.evaluate(
        async ({ url, tier, ids }) => {
          const { createEngine } = globalThis.opsPage.heed;
          const engine = await createEngine({ tier });
          try {
            const model = await engine.load(url, { source: { cache: false } });
            return (await model.generate(ids, { greedy: true, maxTokens: 200 }).result).ids.generated;
          } finally {
            await engine.dispose();
          }
        },
        { url: `${server.origin}/stories260K/`, tier, ids: story.ids },
      );
      expect(generated).toEqual(story.greedy_ids);
      const model = ["--model", folder as string, "--tier", tier, "--greedy", "--max-tokens", "200"];
      const node = await generateInNode([...model, "--ids", story.ids.join(",")]);
      expect(node.ids.generated).toEqual(generated);
    });
  });
}
