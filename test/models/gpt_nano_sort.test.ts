import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { type Decoder, mapLeaves } from "../../src/models/family.ts";
import { type LoadedWeights, loadWeights } from "../../src/models/load.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { denseStep } from "../../src/nn/dense_step.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { assetsPath, describeWithAssets } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { readGptNanoSort, readGptNanoSortPartials, writeGptNanoSort } from "../support/gpt_nano_sort.ts";
import { tolerance } from "../support/tolerances.ts";

const ASSET = "models/gpt-nano-sort";

/** The file's names for what the forward pass calls so; attention's masked scores are compared as probabilities only. */
const TAPS: Readonly<Record<string, string>> = {
  x: "embedding",
  ln1: "block.0.attention.norm",
  qkv: "block.0.attention.qkv",
  attSm: "block.0.attention.probs",
  y: "block.0.attention.mixed",
  yProj: "block.0.attention.projected",
  attnResid: "block.0.attention.residual",
  ln2: "block.0.feed_forward.norm",
  fc: "block.0.feed_forward.up",
  gelu: "block.0.feed_forward.activation",
  mlp: "block.0.feed_forward.down",
  mlpResid: "block.0.output",
  block0: "block.0.output",
  block1: "block.1.output",
  block2: "block.2.output",
};

const root = assetsPath();
if (root) {
  await describeOnTiers("gpt-nano-sort", (engine) => {
    const folder = mkdtempSync(join(tmpdir(), "heed-nano-"));
    let decoder: Decoder;
    let weights: LoadedWeights;
    beforeAll(async () => {
      writeGptNanoSort(readGptNanoSort(join(root, ASSET)), folder);
      const checkpoint = await openCheckpoint(await folderSource(folder));
      decoder = openDecoder(checkpoint.config);
      weights = await loadWeights(engine().device, decoder, checkpoint);
    });
    afterAll(() => {
      weights?.dispose();
      rmSync(folder, { recursive: true });
    });

    it("computes every intermediate of the file", async () => {
      const { ids, values } = readGptNanoSortPartials(join(root, ASSET));
      const [batch, length] = [ids.length, ids[0]?.length ?? 0];
      const rec = new ProgramRecorder("nano");
      const tree = mapLeaves(
        weights.tree,
        (t): t is Tensor => t instanceof Tensor,
        (t) => rec.weight(t),
      );
      const tokens = rec.input("tokens", [batch * length], "u32");
      const rowTable = rec.input("row_table", [batch * length, 2], "u32");
      const hidden = decoder.hidden(
        rec,
        tree,
        denseStep({ tokens, rowTable, batch, length, constants: {}, unfused: () => true }),
      );
      const taps = new Set(Object.values(TAPS));
      for (const name of taps) rec.output(name, rec.find(name));
      rec.output("ln_f", hidden);
      rec.output("lm_head", decoder.logits(rec, tree, hidden));
      const planned = await plan(engine().device, rec);
      try {
        planned.write("tokens", Uint32Array.from(ids.flat()));
        planned.write("row_table", Uint32Array.from(ids.flatMap((row, b) => row.flatMap((_, t) => [b, t]))));
        await planned.run();
        for (const [name, tap] of [...Object.entries(TAPS), ["ln_f", "ln_f"], ["lm_head", "lm_head"]] as const) {
          const expected = values.get(name);
          if (!expected) throw new Error(`the file has no ${name}`);
          assertClose(new Float32Array(await planned.readOutput(tap)), expected.data, {
            ...tolerance("f32", "attention"),
            label: name,
            shape: expected.shape,
          });
        }
      } finally {
        planned.dispose();
      }
    });

    it("sorts letters", async () => {
      const model = await engine().load(folder);
      for (const letters of [
        [2, 1, 0, 0, 1, 2],
        [1, 1, 1, 0, 2, 0],
        [0, 2, 2, 1, 0, 1],
      ]) {
        // minGPT was trained on the six letters followed by their sorted copy, shifted by one: 11 positions.
        const generated: number[] = [];
        for (let i = 0; i < 6; i++) {
          const logits = (await model.logits([...letters, ...generated].slice(0, 11))).at(-1) as Float32Array;
          generated.push(logits.indexOf(Math.max(...logits)));
        }
        expect(generated).toEqual([...letters].sort());
        const { ids } = await model.generate(letters, { greedy: true, maxTokens: 5 }).result;
        expect(ids.generated).toEqual([...letters].sort().slice(0, 5));
      }
      await model.dispose();
    });
  });
} else {
  describeWithAssets("gpt-nano-sort", ASSET, () => {});
}
