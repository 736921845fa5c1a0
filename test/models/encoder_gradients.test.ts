import { expect, it } from "vitest";
import { Tensor } from "../../src/gpu/tensor.ts";
import { mapLeaves } from "../../src/models/family.ts";
import { openEncoder } from "../../src/models/registry.ts";
import { denseStep } from "../../src/nn/dense_step.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import type { Value } from "../../src/ops/op.ts";
import { sgdStep } from "../../src/ops/sgd.ts";
import { gradients } from "../../src/program/autodiff.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { initialise } from "../../src/train/initialise.ts";
import { join } from "node:path";
import { readJson } from "../support/assets.ts";
import { describeOnDevice } from "../support/devices.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";

const [BATCH, LENGTH, STEPS] = [4, 6, 12];

describeOnDevice("training of encoders", (device) => {
  it.each(["bert_classes", "roberta_classes", "distilbert_span", "bert_labels", "albert_words"] as const)(
    "%s: every weight has a gradient, and steps along it lower the loss, with dropout",
    async (name) => {
      const encoder = openEncoder(readJson(join(encoderGoldenPath(name), "config.json")));
      const tree = initialise(device(), encoder, { seed: 4, std: 0.3 });
      const rec = new ProgramRecorder("encoder step");
      const trained: Value[] = [];
      const isTensor = (t: unknown): t is Tensor => t instanceof Tensor;
      const values = mapLeaves(tree, isTensor, (t) => {
        trained.push(rec.state(t));
        return trained.at(-1) as Value;
      });
      const rows = BATCH * LENGTH;
      const rng = rec.input("rng", [3], "u32");
      const step = denseStep({
        tokens: rec.input("tokens", [rows], "u32"),
        rowTable: rec.input("row_table", [rows, 2], "u32"),
        keyLengths: rec.input("lengths", [BATCH], "u32"),
        ...{ batch: BATCH, length: LENGTH, causal: false, constants: {}, training: true },
        dropout: { hidden: 0.05, attention: 0.05, rng },
      });
      const segments = encoder.facts.segments > 0 ? { segments: rec.input("segments", [rows], "u32") } : {};
      const hidden = encoder.hidden(rec, values, { step, ...segments });
      const logits = encoder.logits(rec, values, hidden, { batch: BATCH, step });
      const targets = rec.input("targets", [logits.shape[0] as number], "i32");
      const loss = rec.output("loss", crossEntropy(rec, logits, targets));
      const grads = gradients(rec, loss, trained);
      expect(grads.every((g) => g !== undefined)).toBe(true);
      const lr = rec.input("lr", [1], "f32");
      trained.forEach((param, i) => {
        sgdStep(rec, { param, grad: grads[i] as Value, lr }, { momentum: 0 });
      });
      const planned = await plan(device(), rec);
      planned.write(
        "tokens",
        Uint32Array.from({ length: rows }, (_, i) => (i * 7) % encoder.facts.vocabSize),
      );
      planned.write(
        "row_table",
        Uint32Array.from({ length: rows * 2 }, (_, i) =>
          i % 2 === 0 ? Math.floor(i / 2 / LENGTH) : ((i - 1) / 2) % LENGTH,
        ),
      );
      planned.write("lengths", Uint32Array.of(6, 3, 5, 6));
      const classes = logits.shape[1] as number;
      planned.write(
        "targets",
        Int32Array.from({ length: targets.shape[0] as number }, (_, i) => i % classes),
      );
      planned.write("lr", Float32Array.of(0.05));
      const losses: number[] = [];
      for (let i = 0; i < STEPS; i++) {
        planned.write("rng", Uint32Array.of(1, 2, i));
        await planned.run();
        losses.push(new Float32Array(await planned.readOutput("loss"))[0] as number);
      }
      expect(losses.at(-1)).toBeLessThan(0.9 * (losses[0] as number));
      planned.dispose();
      mapLeaves(tree, isTensor, (t) => t.dispose());
    },
  );
});
