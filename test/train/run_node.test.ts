import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { trainRecipe } from "../../src/train/run_node.ts";
import { describeOnDevice } from "../support/devices.ts";
import { readTinyText, TINY_TRANSLATION } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-run-"));
afterAll(() => rmSync(folder, { recursive: true }));

describeOnDevice("trainRecipe", (device) => {
  it("reads parallel text from the folder that it is told, and keeps the recipe's own names in the result", async () => {
    for (const name of ["source.txt", "target.txt"]) writeFileSync(join(folder, name), await readTinyText(name));
    const output = join(folder, "run");
    const elsewhere = { folder: join(folder, "recipes"), output, text: folder };
    const result = await trainRecipe(device(), { ...TINY_TRANSLATION, steps: 2 }, elsewhere);
    expect(result).toMatchObject({ output, steps: 2 });
    expect(JSON.parse(readFileSync(join(output, "recipe.json"), "utf8")).data).toEqual(TINY_TRANSLATION.data);
  });

  it("refuses a path for data that a grammar writes", async () => {
    const recipe = { ...TINY_TRANSLATION, data: { grammar: "zh-en", pairs: 10 } };
    const run = trainRecipe(device(), recipe, { folder, output: join(folder, "none"), text: folder });
    await expect(run).rejects.toMatchObject({ code: "USAGE" });
  });
});
