import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { trainRecipe } from "../../src/train/run_node.ts";
import { describeOnDevice } from "../support/devices.ts";
import { readTinyText, TINY_RECIPE, TINY_TEXT, TINY_TRANSLATION } from "./tiny.ts";

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

  /** A run of the tiny recipe on a file; `path` is that of its output. */
  const inFolder = (name: string) => {
    writeFileSync(join(folder, "text.txt"), TINY_TEXT);
    const path = join(folder, name);
    const logged = () => readFileSync(join(path, "log.jsonl"), "utf8").trim().split("\n");
    return { path, logged, options: { folder, output: path } };
  };

  it("can be followed in its log, which a divergence leaves whole beside the last checkpoint", async () => {
    const { path, logged, options } = inFolder("diverges");
    const counts: number[] = [];
    const onProgress = (): void => void counts.push(logged().length);
    const checkpoint = { every: 2 };
    await trainRecipe(device(), { ...TINY_RECIPE, steps: 3, checkpoint }, { ...options, onProgress });
    expect(counts).toEqual([1, 2, 3]);
    const wild = { type: "constant", learningRate: 1e30 };
    const recipe = { ...TINY_RECIPE, steps: 9, checkpoint: { every: 50 }, schedule: wild };
    const notes: string[] = [];
    const going = trainRecipe(device(), recipe, { ...options, resume: true, onNote: (text) => notes.push(text) });
    await expect(going).rejects.toMatchObject({ code: "DIVERGED", message: expect.stringContaining("in step 5") });
    expect(logged().length).toBe(4);
    expect(readdirSync(join(path, "checkpoints"))).toEqual(["step-00000002", "step-00000003"]);
    expect(notes).toEqual([expect.stringMatching(/another steps, .*schedule.*, checkpoint than it began with/)]);
  });

  it("removes what a kill has left, and names a checkpoint that is damaged", async () => {
    const { path, options } = inFolder("damaged");
    mkdirSync(path);
    writeFileSync(join(path, ".unfinished-abc"), "half of a model");
    const recipe = { ...TINY_RECIPE, checkpoint: { every: 1 }, steps: 2 };
    await trainRecipe(device(), recipe, options);
    expect(readdirSync(path)).not.toContain(".unfinished-abc");
    truncateSync(join(path, "checkpoints", "step-00000002", "model.safetensors"), 1000);
    await expect(trainRecipe(device(), recipe, { ...options, resume: true })).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/step-00000002 must be whole.*remove its folder/),
    });
    rmSync(join(path, "checkpoints", "step-00000002"), { recursive: true });
    expect((await trainRecipe(device(), recipe, { ...options, resume: true })).steps).toBe(2);
  });

  it("refuses a second run in its folder, and leaves nothing of a run that could not begin", async () => {
    const { path, options } = inFolder("twice");
    const recipe = { ...TINY_RECIPE, steps: 3, checkpoint: { every: 1 } };
    let second: Promise<unknown> | undefined;
    const onProgress = (): void => {
      second ??= trainRecipe(device(), recipe, { ...options, resume: true }).catch((error: unknown) => error);
    };
    expect((await trainRecipe(device(), recipe, { ...options, onProgress })).steps).toBe(3);
    expect(await second).toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(new RegExp(`one run at a time; got .* process ${process.pid} on `)),
    });
    expect(readdirSync(path).filter((name) => name.startsWith("."))).toEqual([]);
    const none = trainRecipe(
      device(),
      { ...recipe, data: { text: "none.txt" } },
      { ...options, output: `${path}-none` },
    );
    await expect(none).rejects.toMatchObject({ code: "BAD_FILE" });
    expect(readdirSync(folder)).not.toContain("twice-none");
  });

  it("never writes over a model that it did not begin with", async () => {
    const { path, options } = inFolder("base");
    mkdirSync(path);
    writeFileSync(join(path, "model.safetensors"), "somebody's");
    await expect(trainRecipe(device(), TINY_RECIPE, options)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("already holds a model (model.safetensors)"),
    });
    expect(readdirSync(path)).toEqual(["model.safetensors"]);
  });
});
