import type { Device } from "../../src/gpu/device.ts";
import { attention } from "../../src/ops/attention.ts";
import { maskedSoftmaxWithLse, qkScores, weightedSum } from "../../src/ops/attention_unfused.ts";
import { only, type OpDef, type Recorder, type Value } from "../../src/ops/op.ts";
import { gradients } from "../../src/program/autodiff.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { attentionBackward } from "../../src/reference/attention.ts";
import { assertClose } from "../support/close.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom, type Random } from "../support/random.ts";
import { gradientTolerance } from "../support/tolerances.ts";
import {
  draw,
  expected,
  formatProblem,
  fromRows,
  hostTensors,
  optionsOf,
  outTolerance,
  type Problem,
  problem,
  toRows,
} from "./attention_support.ts";

/** A loss whose gradient is a given tensor: Σ out · dout. Nothing reads its value, so it never runs. */
const SEED: OpDef<null> = {
  name: "seed",
  infer: () => [{ shape: [1], dtype: "f32" }],
  lower() {
    throw new Error("the seed's value was asked for");
  },
  backward: (_, { inputs }) => ({ out: inputs["dout"] as Value }),
};

type Inputs = { q: Value; k: Value; v: Value; keyLengths?: Value };

function threeKernels(rec: Recorder, p: Problem, { q, k, v, keyLengths }: Inputs) {
  const { causal, window, queryStart, scale, ...sizes } = optionsOf(p);
  const scores = qkScores(rec, { q, k }, { ...sizes, scale });
  const { probs, lse } = maskedSoftmaxWithLse(rec, scores, { causal, window, queryStart, keyLengths });
  return { probs, lse, out: weightedSum(rec, { probs, v }, sizes) };
}

async function checkThreeKernels(device: Device, random: Random, p: Problem): Promise<void> {
  const data = draw(random, p);
  const result = await runOps(device, hostTensors(p, data), (rec, values): Record<string, Value> => {
    const inputs = values as unknown as Inputs;
    const fused = attention(rec, inputs, { ...optionsOf(p), keyLengths: inputs.keyLengths });
    return { ...threeKernels(rec, p, inputs), fused: fused.out };
  });
  const want = expected(p, data);
  const context = `${formatProblem(p)}, seed ${random.seed}, tier ${device.facts.tier}`;
  const { atol, rtol } = outTolerance(p);
  const ordered = (x: unknown) =>
    p.layout === "rows" ? fromRows(x as Float32Array, p.B, p.H, p.T, p.Dv) : (x as Float32Array);
  const shape = [p.B, p.H, p.T, p.Dv];
  assertClose(result.probs as Float32Array, want.probs, {
    atol,
    rtol,
    label: "probs",
    shape: [p.B, p.H, p.T, p.S],
    context,
  });
  assertClose(result.lse as Float32Array, want.lse, {
    atol,
    rtol: 1e-5,
    label: "lse",
    shape: [p.B, p.H, p.T],
    context,
  });
  assertClose(ordered(result.out), want.out, { atol, rtol, label: "out", shape, context });
  assertClose(result.fused as Float32Array, result.out as Float32Array, {
    atol,
    rtol,
    label: "fused = three kernels",
    context,
  });
}

async function checkGradients(device: Device, random: Random, p: Problem): Promise<void> {
  const data = draw(random, p);
  const dout = random.normals(p.B * p.H * p.T * p.Dv);
  const rows = p.layout === "rows";
  const seed = rows
    ? { shape: [p.B * p.T, p.H * p.Dv], data: Float32Array.from(toRows(dout, p.B, p.H, p.T, p.Dv)) }
    : { shape: [p.B, p.H, p.T, p.Dv], data: Float32Array.from(dout) };
  const result = await runOps(device, { ...hostTensors(p, data), seed }, (rec, values): Record<string, Value> => {
    const inputs = values as unknown as Inputs & { seed: Value };
    const { out } = threeKernels(rec, p, inputs);
    const loss = only(rec.record(SEED, { out, dout: inputs.seed }, null));
    const [dq, dk, dv] = gradients(rec, loss, [inputs.q, inputs.k, inputs.v]) as [Value, Value, Value];
    return { dq, dk, dv };
  });
  const { causal, window, queryStart, keyLengths, scale } = p;
  const want = attentionBackward(data.q, data.k, data.v, dout, p, { causal, window, queryStart, keyLengths, scale });
  const context = `${formatProblem(p)}, seed ${random.seed}, tier ${device.facts.tier}`;
  const check = (name: "dq" | "dk" | "dv", heads: number, length: number, width: number) => {
    const got = result[name] as Float32Array;
    const ordered = rows ? fromRows(got, p.B, heads, length, width) : got;
    assertClose(ordered, want[name], {
      ...gradientTolerance(want[name]),
      label: name,
      shape: [p.B, heads, length, width],
      context,
    });
  };
  check("dq", p.H, p.T, p.D);
  check("dk", p.Hkv, p.S, p.D);
  check("dv", p.Hkv, p.S, p.Dv);
}

const GROUPED: Partial<Problem> = { B: 2, H: 4, Hkv: 2, T: 17, S: 35, D: 10, Dv: 6, causal: true, queryStart: 18 };

export const cases = opCases("attention (three kernels)", (add) => {
  add("match the reference and the fused kernel with a causal mask and grouped heads", (device) =>
    checkThreeKernels(device, createRandom(31), problem(GROUPED)),
  );
  add("match the reference on rows, with lengths down to 0 and a window", (device) =>
    checkThreeKernels(
      device,
      createRandom(32),
      problem({ B: 3, H: 2, T: 70, D: 8, layout: "rows", keyLengths: [70, 0, 41], window: 9 }),
    ),
  );
  add("match the reference on f16 inputs and logits of ±1e4", async (device) => {
    await checkThreeKernels(device, createRandom(33), problem({ T: 33, S: 65, D: 24, dtype: "f16" }));
    await checkThreeKernels(device, createRandom(34), problem({ T: 20, D: 10, size: 40, scale: 1 }));
  });
  add("give the gradients of q, k and v with grouped heads", (device) =>
    checkGradients(device, createRandom(35), problem(GROUPED)),
  );
  add("give gradients on rows, 0 for a row without keys", (device) =>
    checkGradients(
      device,
      createRandom(36),
      problem({ B: 2, H: 2, T: 19, D: 8, layout: "rows", causal: true, keyLengths: [19, 0] }),
    ),
  );
});
