import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { mapLeaves, type WeightTree } from "../../src/models/family.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { denseStep } from "../../src/nn/dense_step.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { GOLDEN_NAMES, goldenPath, readGolden } from "../support/goldens.ts";
import { tolerance } from "../support/tolerances.ts";

const isTensor = (node: WeightTree<Tensor>): node is Tensor => node instanceof Tensor;

describeOnDevice("a step on whole sequences", (device) => {
  it.each(GOLDEN_NAMES)("%s: the logits of transformers, without a cache", async (name) => {
    const checkpoint = await openCheckpoint(await openSource(goldenPath(name)));
    const decoder = openDecoder(checkpoint.config);
    const weights = await loadWeights(device(), decoder, checkpoint);
    try {
      const { ids, logits } = readGolden(name).findLast((g) => g.ids.length <= decoder.facts.contextLength)!;
      const length = ids.length;
      const constants = decoder.constants(length);
      const hosts = Object.fromEntries(
        Object.entries(constants).map(([key, { shape, data }]) => [key, { shape, data: new Float32Array(data) }]),
      );
      const got = await runOps(
        device(),
        {
          ...hosts,
          tokens: { shape: [length], data: Uint32Array.from(ids) },
          row_table: { shape: [length, 2], data: Uint32Array.from(ids.flatMap((_, i) => [0, i])) },
        },
        (rec, { tokens, row_table: rowTable, ...rest }) => {
          const step = denseStep({ tokens: tokens!, rowTable: rowTable!, batch: 1, length, constants: rest });
          const tree = mapLeaves(weights.tree, isTensor, (t) => rec.weight(t));
          return { logits: decoder.logits(rec, tree, decoder.hidden(rec, tree, step)) };
        },
      );
      expect(got.logits!.length).toBe(logits.length);
      const shape = [length, decoder.facts.vocabSize];
      assertClose(got.logits!, logits, { ...tolerance("f32", "logits"), label: name, shape });
    } finally {
      weights.dispose();
    }
  });
});
