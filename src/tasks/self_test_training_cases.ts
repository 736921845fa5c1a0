import { adamwStep as adamwOp, countStep } from "../ops/adamw.ts";
import { attention as attentionOp } from "../ops/attention.ts";
import { attentionCapture } from "../ops/attention_capture.ts";
import { dropout as dropoutOp } from "../ops/dropout.ts";
import { globalNorm } from "../ops/global_norm.ts";
import type { Value } from "../ops/op.ts";
import { override } from "../ops/override.ts";
import { sgdStep as sgdOp } from "../ops/sgd.ts";
import { transposeInto } from "../ops/transpose.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { HostTensor } from "../program/run_ops.ts";
import { adamwStep } from "../reference/adamw.ts";
import { attention, attentionBackward } from "../reference/attention.ts";
import { attentionRagged } from "../reference/attention_ragged.ts";
import { clipGradients } from "../reference/clip_gradients.ts";
import { dropout } from "../reference/dropout.ts";
import { biasBackward } from "../reference/qk_scores.ts";
import { relativeBiasBackward } from "../reference/relative_bias.ts";
import { sgdStep } from "../reference/sgd.ts";
import {
  at,
  f16,
  f32,
  type Numbers,
  numbers,
  type SelfTestCase,
  u32,
  type Values,
  withGradients,
} from "./self_test_numbers.ts";

const SIZES = { batch: 1, heads: 4, kvHeads: 2, headDim: 16, queryLength: 6, keyLength: 9, layout: "bhtd" } as const;
const DIMS = { B: 1, H: 4, Hkv: 2, T: 6, S: 9, D: 16, Dv: 16 };

/** What training runs, what loading runs, and attention with everything that it takes. */
export function trainingCases(): SelfTestCase[] {
  return [
    dropoutCase(),
    overrideCase(),
    ...(["f32", "f16"] as const).map(transposeCase),
    adamwCase(),
    sgdCase(false),
    sgdCase(true),
    ...[false, true].map(everythingCase),
    hardCase(),
    halfGradientsCase(),
    raggedCase(),
    captureCase(),
  ];
}

function state(tensor: HostTensor): HostTensor {
  return { ...tensor, kind: "state" };
}

function dropoutCase(): SelfTestCase {
  const x = numbers(61, 5, 9);
  return {
    name: "dropout",
    inputs: { x: f32(x), rng: u32(7, 9, 3) },
    record: (rec, v) => ({ out: dropoutOp(rec, at(v, "x"), { rate: 0.3, rng: at(v, "rng") }) }),
    expected: () => ({ out: dropout(x.values, { p: 0.3, seed: [7, 9], step: 3, opId: 0 }) }),
  };
}

function overrideCase(): SelfTestCase {
  const [x, factor, shift] = [numbers(62, 3, 7), numbers(63, 3, 7), numbers(64, 3, 7)];
  return {
    name: "override",
    inputs: { x: f32(x), factor: f32(factor), shift: f32(shift) },
    record: (rec, v) => ({ out: override(rec, at(v, "x"), { factor: at(v, "factor"), shift: at(v, "shift") }) }),
    expected: () => ({
      out: x.values.map((value, i) => value * (factor.values[i] as number) + (shift.values[i] as number)),
    }),
  };
}

function transposeCase(dtype: "f32" | "f16"): SelfTestCase {
  const x = numbers(65, 6, 10);
  const swapped: Numbers = {
    shape: [10, 6],
    values: Float64Array.from({ length: 60 }, (_, i) => x.values[(i % 6) * 10 + Math.floor(i / 6)] as number),
  };
  const encode = dtype === "f16" ? f16 : f32;
  const empty = { shape: [10, 6], values: new Float64Array(60) };
  return {
    name: `transpose ${dtype}`,
    inputs: { x: encode(x), out: state(encode(empty)) },
    record(rec, v) {
      transposeInto(rec, at(v, "x"), at(v, "out"));
      return { out: at(v, "out") };
    },
    expected: () => ({ out: encode(swapped).data }),
  };
}

function adamwCase(): SelfTestCase {
  const [param, grad, m] = [numbers(66, 9, 5), numbers(67, 9, 5), numbers(68, 9, 5)];
  const v = { shape: m.shape, values: m.values.map((x) => x * x) };
  const attrs = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.01, maxNorm: 1 };
  return {
    name: "AdamW with clipping",
    inputs: {
      ...{ param: state(f32(param)), grad: f32(grad), m: state(f32(m)), v: state(f32(v)) },
      ...{ lr: { shape: [1], data: Float32Array.of(0.5) }, step: state(u32(4)) },
    },
    record(rec, values) {
      const given = values as unknown as Parameters<typeof adamwOp>[1];
      const norm = globalNorm(rec, [given.grad]);
      adamwOp(rec, { ...given, norm }, attrs);
      countStep(rec, given.step);
      return { norm, param: given.param, m: given.m, v: given.v, step: given.step };
    },
    expected() {
      const after = { param: param.values.slice(), m: m.values.slice(), v: v.values.slice() };
      const clipped = grad.values.slice();
      const norm = clipGradients([clipped], 1);
      adamwStep(after, clipped, { ...attrs, lr: 0.5, step: 5 });
      return { norm: [norm], ...after, step: [5] };
    },
  };
}

function sgdCase(hasMomentum: boolean): SelfTestCase {
  const [param, grad, velocity] = [numbers(69, 9, 5), numbers(70, 9, 5), numbers(71, 9, 5)];
  const options = { weightDecay: 0.25, ...(hasMomentum ? { momentum: 0.5 } : {}) };
  return {
    name: hasMomentum ? "gradient descent with momentum" : "gradient descent",
    inputs: {
      ...{ param: state(f32(param)), grad: f32(grad), lr: { shape: [1], data: Float32Array.of(0.5) } },
      ...(hasMomentum ? { velocity: state(f32(velocity)) } : {}),
    },
    record(rec, values) {
      sgdOp(rec, values as unknown as Parameters<typeof sgdOp>[1], options);
      return { param: at(values, "param") };
    },
    expected() {
      const after = { param: param.values.slice(), ...(hasMomentum ? { buffer: velocity.values.slice() } : {}) };
      sgdStep(after, grad.values, { ...options, lr: 0.5 });
      return { param: after.param };
    },
  };
}

interface Tensors {
  readonly q: Numbers;
  readonly k: Numbers;
  readonly v: Numbers;
}

function tensors(seed: number): Tensors {
  const { H, Hkv, T, S, D } = DIMS;
  return { q: numbers(seed, 1, H, T, D), k: numbers(seed + 1, 1, Hkv, S, D), v: numbers(seed + 2, 1, Hkv, S, D) };
}

function qkvOf(values: Values) {
  return { q: at(values, "q"), k: at(values, "k"), v: at(values, "v") };
}

/** Every change of scores at once; `trained`: with the gradients of biases too, which the three kernels give. */
function everythingCase(trained: boolean): SelfTestCase {
  const { q, k, v } = tensors(72);
  const [bias, sinks, slopes, dout] = [
    numbers(75, 1, 4, 6, 9),
    numbers(76, 4),
    numbers(77, 4),
    numbers(78, 1, 4, 6, 16),
  ];
  const weight = numbers(79, 8, 4);
  const relative = { buckets: 8, bidirectional: false, maxDistance: 16, weight: weight.values };
  const shared = { causal: true, queryStart: 3, window: 7, prefix: 2, keyLengths: 8, softcap: 2 };
  const broadcast = { data: bias.values, shape: [1, 4, 6, 9] as const };
  const changes = {
    sinks: sinks.values,
    ...(trained ? { bias: broadcast, relative } : { alibiSlopes: slopes.values }),
  };
  const wrt = ["q", "k", "v", "sinks", ...(trained ? ["bias", "weight"] : [])];
  return {
    name: trained ? "gradients of attention's biases" : "gradients of attention with slopes and sinks",
    inputs: {
      ...{ q: f32(q), k: f32(k), v: f32(v), sinks: f32(sinks), seed: f32(dout) },
      ...(trained ? { bias: f32(bias), weight: f32(weight) } : { slopes: f32(slopes) }),
    },
    record(rec, values) {
      const { sinks, bias, slopes, weight: table } = values as Readonly<Record<string, Value | undefined>>;
      const relativeBias = table && { weight: table, maxDistance: 16 };
      const options = { ...SIZES, ...shared, sinks, bias, alibiSlopes: slopes, relativeBias };
      const { out } = attentionOp(rec, qkvOf(values), options);
      const grads = gradientsFrom(
        rec,
        new Map([[out, at(values, "seed")]]),
        wrt.map((name) => at(values, name)),
      );
      return { out, ...Object.fromEntries(wrt.map((name, i) => [`d${name}`, grads[i] as Value])) };
    },
    expected() {
      const options = { ...shared, ...changes };
      const { out } = attention(q.values, k.values, v.values, DIMS, options);
      const grads = attentionBackward(q.values, k.values, v.values, dout.values, DIMS, options);
      return {
        ...{ out, dq: grads.dq, dk: grads.dk, dv: grads.dv, dsinks: grads.dsinks },
        dbias: biasBackward(grads.dscores, DIMS, [1, 4, 6, 9]),
        dweight: relativeBiasBackward(grads.dscores, DIMS, relative, () => 3),
      };
    },
  };
}

function hardCase(): SelfTestCase {
  const { q, k, v } = tensors(130);
  const dout = numbers(133, 1, 4, 6, 16);
  const mask = { causal: true, queryStart: 3, window: 5, selection: "hard" } as const;
  return {
    name: "hard attention",
    inputs: { q: f32(q), k: f32(k), v: f32(v), dout: f32(dout) },
    record: (rec, values) =>
      withGradients(rec, values, ["q", "k", "v"], () => attentionOp(rec, qkvOf(values), { ...SIZES, ...mask }).out),
    expected() {
      const { dq, dk, dv } = attentionBackward(q.values, k.values, v.values, dout.values, DIMS, mask);
      return { out: attention(q.values, k.values, v.values, DIMS, mask).out, dq, dk, dv };
    },
  };
}

function halfGradientsCase(): SelfTestCase {
  const { q, k, v } = tensors(134);
  const dout = numbers(137, 1, 4, 6, 16);
  return {
    name: "gradients of attention f16",
    inputs: { q: f16(q), k: f16(k), v: f16(v), seed: f32(dout) },
    record(rec, values) {
      const { out } = attentionOp(rec, qkvOf(values), { ...SIZES, causal: true, queryStart: 3 });
      const wrt = ["q", "k", "v"].map((name) => at(values, name));
      const [dq, dk, dv] = gradientsFrom(rec, new Map([[out, at(values, "seed")]]), wrt) as [Value, Value, Value];
      return { out, dq, dk, dv };
    },
    expected() {
      const options = { causal: true, queryStart: 3 };
      const { dq, dk, dv } = attentionBackward(q.values, k.values, v.values, dout.values, DIMS, options);
      return { out: attention(q.values, k.values, v.values, DIMS, options).out, dq, dk, dv };
    },
  };
}

function raggedCase(): SelfTestCase {
  const { q, k, v } = tensors(80);
  const offsets = { queryOffsets: [0, 2, 6], keyOffsets: [0, 5, 9] };
  const { B: _, ...dims } = DIMS;
  return {
    name: "attention of a ragged batch",
    inputs: { q: f32(q), k: f32(k), v: f32(v) },
    record: (rec, values) => ({ out: attentionOp(rec, qkvOf(values), { ...SIZES, ...offsets }).out }),
    expected: () => ({ out: attentionRagged(q.values, k.values, v.values, { ...dims, ...offsets }).out }),
  };
}

function captureCase(): SelfTestCase {
  const { q, k, v } = tensors(83);
  const whole = () => attention(q.values, k.values, v.values, DIMS, { causal: true, queryStart: 3, softcap: 2 });
  return {
    name: "captured weights",
    inputs: {
      q: f32(q),
      k: f32(k),
      lists: u32(1, 3, 0, 5),
      lse: { shape: [1, 4, 6], data: Float32Array.from(whole().lse) },
    },
    record(rec, values) {
      const inputs = {
        q: at(values, "q"),
        k: at(values, "k"),
        lse: at(values, "lse"),
        lists: at(values, "lists"),
        chosen: 2,
      };
      return { weights: attentionCapture(rec, inputs, { ...SIZES, causal: true, queryStart: 3, softcap: 2 }) };
    },
    expected() {
      const { probs } = whole();
      return {
        weights: [1, 3].flatMap((h) =>
          [0, 5].flatMap((t) => [...probs.subarray((h * 6 + t) * 9, (h * 6 + t + 1) * 9)]),
        ),
      };
    },
  };
}
