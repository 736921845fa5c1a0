import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { openFinetuning } from "../../src/train/index.ts";
import { assertClose } from "../support/close.ts";
import { Engine } from "../../src/tasks/engine.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { describeOnDevice } from "../support/devices.ts";

const SHAKESPEARE = fileURLToPath(new URL("../../models/shakespeare", import.meta.url));
const TEXT = "the cat sat on the mat. the dog sat on the log. ".repeat(4);
const SIZES = { steps: 3, batch: 2, length: 16, learningRate: 0.01, seed: 1 };

/** Files as {@link filesSource} takes them. */
function asFiles(files: Iterable<readonly [string, readonly Uint8Array[] | string]>): Map<string, Blob> {
  return new Map(
    [...files].map(([name, parts]) => [
      name,
      new Blob(typeof parts === "string" ? [parts] : [...parts].map((part) => new Uint8Array(part))),
    ]),
  );
}

describeOnDevice("openFinetuning", (device) => {
  const engine = () => new Engine(device(), openSource);

  it("trains an adapter whose model, files loaded beside the base, and files merged all compute the same", async () => {
    const source = await folderSource(SHAKESPEARE);
    const examples = { task: "lm", texts: [TEXT] } as const;
    const held = { task: "lm", texts: ["the cat sat on the log."] } as const;
    const tuning = await openFinetuning(engine(), source, examples, { ...SIZES, lora: { rank: 4 }, heldOut: held });
    const base = await engine().load(source, { dtype: "f32" });
    const ids = base.tokenizer?.encode("the cat") ?? [];
    const lastOf = async (model: typeof base) => (await model.logits(ids)).at(-1) ?? new Float32Array();
    const before = await lastOf(base);
    const live = await tuning.model();
    assertClose(await lastOf(live), before, { atol: 1e-5, rtol: 1e-5 });

    const losses: number[] = [];
    for await (const { loss, validationLoss } of tuning) {
      losses.push(loss);
      if (losses.length === SIZES.steps) expect(validationLoss).toBeGreaterThan(0);
    }
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    const after = await lastOf(live);
    expect(() => assertClose(after, before, { atol: 1e-2, rtol: 1e-2 })).toThrow();

    const adapter = filesSource(asFiles(await tuning.adapterFiles("shakespeare")));
    await engine().loadAdapter(base, adapter, { name: "cats" });
    assertClose(await lastOf(base), after, { atol: 1e-4, rtol: 1e-4 });
    await base.useAdapter();
    assertClose(await lastOf(base), before, { atol: 1e-5, rtol: 1e-5 });

    const files = asFiles(await tuning.files());
    expect([...files.keys()]).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"]));
    const merged = await engine().load(filesSource(files));
    assertClose(await lastOf(merged), after, { atol: 1e-4, rtol: 1e-4 });
    for (const model of [base, merged]) await model.dispose();
    await tuning.dispose();
  });

  it("refuses what is held out for another task, and a model without a tokenizer", async () => {
    const source = await folderSource(SHAKESPEARE);
    const pairs = [{ prompt: "a", completion: "b" }];
    const examples = { task: "completion", pairs } as const;
    const held = { task: "lm", texts: ["a"] } as const;
    await expect(openFinetuning(engine(), source, examples, { ...SIZES, heldOut: held })).rejects.toThrow(
      /must be for completion; got lm/,
    );
    const config = new Blob([(await source.readText("config.json")) ?? ""]);
    const weights = await source.open("model.safetensors");
    const bytes = new Uint8Array((await weights?.read(0, weights.sizeBytes)) ?? []);
    const bare = new Map([
      ["config.json", config],
      ["model.safetensors", new Blob([bytes])],
    ]);
    await expect(openFinetuning(engine(), bare, examples, SIZES)).rejects.toThrow(/a model with a tokenizer is needed/);
  });
});
