import { afterAll, beforeAll, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { type Decoder, isRule, mapLeaves, mapRules, type WeightRule } from "../../src/models/family.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { denseStep } from "../../src/nn/dense_step.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { dropout } from "../../src/ops/dropout.ts";
import { linear } from "../../src/ops/linear.ts";
import type { Value } from "../../src/ops/op.ts";
import { gradients } from "../../src/program/autodiff.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { initialise } from "../../src/train/initialise.ts";
import { describeOnDevice, describeOnTiers } from "../support/devices.ts";
import { gpt2Reference } from "../support/gpt2_reference.ts";
import { createRandom, testSeed } from "../support/random.ts";
import type { TestTensor } from "../support/safetensors.ts";

const CONFIG = {
  model_type: "gpt2",
  n_layer: 2,
  n_head: 2,
  n_embd: 16,
  n_positions: 8,
  vocab_size: 11,
  layer_norm_epsilon: 1e-5,
};
const TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7];
const TARGETS = [1, 4, 1, 5, 9, 2, -100, 5, 3, 5, 8, -100, 7, 10];
const [BATCH, LENGTH] = [2, 7];

interface Gradients {
  loss: number;
  grads: Float32Array[];
  slabBytes: number;
}

/** Records loss and gradients of a GPT-2 with the three named attention kernels, and runs it. */
async function gpuGradients(
  device: Device,
  decoder: Decoder,
  parameters: readonly Tensor[],
  recompute: boolean,
): Promise<Gradients> {
  const rec = new ProgramRecorder("gradients");
  let next = 0;
  const values: Value[] = [];
  const tree = mapRules(decoder.rules, () => {
    const value = rec.state(parameters[next++] as Tensor);
    values.push(value);
    return value;
  });
  const tokens = rec.input("tokens", [BATCH * LENGTH], "u32");
  const targets = rec.input("targets", [BATCH * LENGTH], "i32");
  const rowTable = rec.input("row_table", [BATCH * LENGTH, 2], "u32");
  const hidden = decoder.hidden(
    rec,
    tree,
    denseStep({ tokens, rowTable, batch: BATCH, length: LENGTH, constants: {}, recompute }),
  );
  const loss = rec.output("loss", crossEntropy(rec, decoder.logits(rec, tree, hidden), targets));
  gradients(rec, loss, values).forEach((g, i) => {
    rec.output(`grad${i}`, g);
  });
  const planned = await plan(device, rec);
  try {
    planned.write("tokens", Uint32Array.from(TOKENS));
    planned.write("targets", Int32Array.from(TARGETS));
    planned.write(
      "row_table",
      Uint32Array.from({ length: BATCH * LENGTH * 2 }, (_, i) =>
        i % 2 === 0 ? Math.floor(i / 2 / LENGTH) : (i >> 1) % LENGTH,
      ),
    );
    await planned.run();
    const grads: Float32Array[] = [];
    for (let i = 0; i < values.length; i++) grads.push(new Float32Array(await planned.readOutput(`grad${i}`)));
    const [value = Number.NaN] = new Float32Array(await planned.readOutput("loss"));
    return { loss: value, grads, slabBytes: planned.layout.slabBytes.reduce((a, b) => a + b, 0) };
  } finally {
    planned.dispose();
  }
}

/** The same loss in float64, from parameters in Heed's layout. */
function referenceLoss(rules: readonly WeightRule[], data: readonly Float32Array[]): number {
  const tensors = new Map<string, TestTensor>();
  rules.forEach(({ from, shape, turned }, i) => {
    const own = data[i] as Float32Array;
    const [rows = 1, cols = 1] = shape;
    const turnedData = () =>
      Float32Array.from(own, (_, at) => own[(at % rows) * cols + Math.floor(at / rows)] as number);
    tensors.set(
      from[0] as string,
      turned ? { shape: [cols, rows], data: turnedData() } : { shape: [...shape], data: own },
    );
  });
  let sum = 0;
  let counted = 0;
  for (let b = 0; b < BATCH; b++) {
    const { logits } = gpt2Reference(tensors, CONFIG, TOKENS.slice(b * LENGTH, (b + 1) * LENGTH));
    for (let t = 0; t < LENGTH; t++) {
      const target = TARGETS[b * LENGTH + t] as number;
      if (target < 0) continue;
      const row = logits.subarray(t * CONFIG.vocab_size, (t + 1) * CONFIG.vocab_size);
      const max = Math.max(...row);
      sum += max + Math.log(row.reduce((s, x) => s + Math.exp(x - max), 0)) - (row[target] as number);
      counted++;
    }
  }
  return sum / counted;
}

await describeOnTiers("gradients of a GPT-2", (engine) => {
  const decoder = openDecoder(CONFIG);
  const rules: WeightRule[] = [];
  mapLeaves(decoder.rules, isRule, (rule) => rules.push(rule));
  const parameters: Tensor[] = [];
  let data: Float32Array[] = [];

  beforeAll(async () => {
    const tree = initialise(engine().device, decoder, { seed: 5, std: 0.4 });
    mapLeaves(
      tree,
      (t): t is Tensor => t instanceof Tensor,
      (t) => parameters.push(t),
    );
    data = await Promise.all(parameters.map(async (t) => new Float32Array(await t.read())));
  });
  afterAll(() => {
    for (const t of parameters.splice(0)) t.dispose();
  });

  it("equal the slope of the float64 loss along drawn directions, parameter by parameter", async () => {
    const seed = testSeed("autodiff", 20);
    const random = createRandom(seed);
    const { loss, grads } = await gpuGradients(engine().device, decoder, parameters, false);
    expect(Math.abs(loss - referenceLoss(rules, data))).toBeLessThan(1e-5 * loss);
    rules.forEach((rule, i) => {
      const own = data[i] as Float32Array;
      const direction = Float64Array.from(own, () => random.normal());
      const shifted = (h: number) => {
        const moved = Float32Array.from(own, (x, j) => x + h * (direction[j] as number));
        return {
          moved,
          loss: referenceLoss(
            rules,
            data.map((d, k) => (k === i ? moved : d)),
          ),
        };
      };
      const [plus, minus] = [shifted(1e-3), shifted(-1e-3)];
      let predicted = 0;
      let size = 0;
      (grads[i] as Float32Array).forEach((g, j) => {
        const step = (plus.moved[j] as number) - (minus.moved[j] as number);
        predicted += g * step;
        size += Math.abs(g * step);
      });
      const actual = plus.loss - minus.loss;
      expect(
        Math.abs(predicted - actual),
        `${rule.from[0]}: predicted ${predicted}, actual ${actual} (seed ${seed})`,
      ).toBeLessThan(1e-3 * size + 1e-8);
    });
  });

  it("are the same bits when blocks are computed again instead of kept", async () => {
    const kept = await gpuGradients(engine().device, decoder, parameters, false);
    const again = await gpuGradients(engine().device, decoder, parameters, true);
    expect(again.loss).toBe(kept.loss);
    again.grads.forEach((g, i) => {
      expect(g).toEqual(kept.grads[i]);
    });
  });

  it("draw the same dropout mask when computed again", async () => {
    const random = createRandom(7);
    const x = Float32Array.from({ length: 8 * 16 }, () => random.normal());
    const w = Float32Array.from({ length: 5 * 16 }, () => random.normal());
    const run = (recompute: boolean) =>
      runOps(
        engine().device,
        {
          x: { shape: [8, 16], data: x },
          w: { shape: [5, 16], data: w },
          targets: { shape: [8], data: Int32Array.from([0, 1, 2, 3, 4, 0, 1, 2]) },
          rng: { shape: [3], data: Uint32Array.from([1, 2, 3]) },
        },
        (rec, v) => {
          const body = () =>
            linear(rec, dropout(rec, dropout(rec, v.x, { rate: 0.3, rng: v.rng }), { rate: 0.2, rng: v.rng }), v.w);
          const loss = crossEntropy(rec, recompute ? rec.recomputed(body) : body(), v.targets);
          const [dx, dw] = gradients(rec, loss, [v.x, v.w]) as [Value, Value];
          return { loss, dx, dw };
        },
      );
    expect(await run(true)).toEqual(await run(false));
  });
});

describeOnDevice("memory of gradients", (device) => {
  it("is smaller with recomputed blocks", async () => {
    const decoder = openDecoder({ ...CONFIG, n_layer: 8 });
    const parameters: Tensor[] = [];
    mapLeaves(
      initialise(device(), decoder, { seed: 1 }),
      (t): t is Tensor => t instanceof Tensor,
      (t) => parameters.push(t),
    );
    const kept = await gpuGradients(device(), decoder, parameters, false);
    const again = await gpuGradients(device(), decoder, parameters, true);
    expect(again.slabBytes).toBeLessThan(kept.slabBytes);
    for (const t of parameters) t.dispose();
  });
});
