import { activation as activationOp } from "../ops/activation.ts";
import { add } from "../ops/add.ts";
import { attention as attentionOp } from "../ops/attention.ts";
import { attentionUnfused } from "../ops/attention_unfused.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import { crossEntropyOf } from "../ops/cross_entropy.ts";
import { embedding as embeddingOp } from "../ops/embedding.ts";
import { gatedActivation as gatedOp } from "../ops/gated_activation.ts";
import { groupNorm as groupNormOp } from "../ops/group_norm.ts";
import { layerNorm as layerNormOp } from "../ops/layer_norm.ts";
import { linear as linearOp } from "../ops/linear.ts";
import { type MatmulLayout, matmul as matmulOp } from "../ops/matmul.ts";
import type { Value } from "../ops/op.ts";
import { rmsNorm as rmsNormOp } from "../ops/rms_norm.ts";
import { rope as ropeOp, ropeTable } from "../ops/rope.ts";
import { rowMoments } from "../ops/row_moments.ts";
import { softmax as softmaxOp } from "../ops/softmax.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { HostTensor } from "../program/run_ops.ts";
import { at, f16, f32, numbers, type SelfTestCase, u32, type Values, withGradients } from "./self_test_numbers.ts";
import { cacheCases } from "./self_test_cache_cases.ts";
import { modelCases } from "./self_test_model_cases.ts";
import { pageCases } from "./self_test_page_cases.ts";
import { trainingCases } from "./self_test_training_cases.ts";
import { activation, activationBackward, type ActivationName } from "../reference/activation.ts";
import { type AttentionOptions, attention, attentionBackward } from "../reference/attention.ts";
import { crossEntropy } from "../reference/cross_entropy.ts";
import { embedding, embeddingBackward } from "../reference/embedding.ts";
import { gatedActivation, gatedActivationBackward } from "../reference/gated_activation.ts";
import { groupNorm } from "../reference/group_norm.ts";
import { layerNorm, layerNormBackward } from "../reference/layer_norm.ts";
import { maskedSoftmax, maskedSoftmaxBackward } from "../reference/masked_softmax.ts";
import { linear, linearBackward, matmul } from "../reference/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../reference/rms_norm.ts";
import { rope, ropeBackward, ropeInverseFrequencies } from "../reference/rope.ts";

const ACTIVATIONS: readonly ActivationName[] = ["gelu", "gelu_tanh", "silu", "relu", "sigmoid", "tanh"];

/** The golden cases, in an order in which simpler ops come first: what they show right is no suspect in later ones. */
export function selfTestCases(): SelfTestCase[] {
  const first = [...elementwiseCases(), ...normCases(), ...matrixCases(), ...rowCases(), ...attentionCases()];
  return [...first, ...cacheCases(), ...pageCases(), ...modelCases(), ...trainingCases()].flatMap((test) => {
    const { dout, ...inputs } = test.inputs;
    return dout
      ? [
          { ...test, inputs },
          { ...test, name: `gradients of ${test.name}` },
        ]
      : [test];
  });
}

function elementwiseCases(): SelfTestCase[] {
  const [x, dout] = [numbers(1, 5, 9), numbers(2, 5, 9)];
  const [a, b] = [numbers(4, 3, 8), numbers(5, 3, 7)];
  const adds = [a, b].map(
    (n): SelfTestCase => ({
      name: `add of [${n.shape.join(", ")}]`,
      inputs: { a: f32(n) },
      record: (rec, v) => ({ out: add(rec, at(v, "a"), at(v, "a")) }),
      expected: () => ({ out: n.values.map((value) => 2 * value) }),
    }),
  );
  return [
    ...adds,
    {
      name: "columns beside each other",
      inputs: { a: f32(a), b: f32(b) },
      record: (rec, v) => ({ out: concatColumns(rec, [at(v, "a"), at(v, "b")]) }),
      expected: () => ({
        out: [0, 1, 2].flatMap((n) => [...a.values.subarray(n * 8, n * 8 + 8), ...b.values.subarray(n * 7, n * 7 + 7)]),
      }),
    },
    ...ACTIVATIONS.map(
      (kind): SelfTestCase => ({
        name: `activation ${kind}`,
        inputs: { x: f32(x), dout: f32(dout) },
        record: (rec, v) => withGradients(rec, v, ["x"], () => activationOp(rec, at(v, "x"), kind)),
        expected: () => ({ out: activation(kind, x.values), dx: activationBackward(kind, x.values, dout.values) }),
      }),
    ),
    ...(["silu", "gelu", "gelu_tanh"] as const).map(gatedCase),
  ];
}

function gatedCase(kind: ActivationName): SelfTestCase {
  const [N, F] = [4, 6];
  const [gate, up, dout] = [numbers(3, N, F), numbers(34, N, F), numbers(35, N, F)];
  const beside = (a: Float64Array, b: Float64Array) =>
    Float64Array.from({ length: 2 * N * F }, (_, i) => {
      const [n, c] = [Math.floor(i / (2 * F)), i % (2 * F)];
      return (c < F ? a[n * F + c] : b[n * F + c - F]) as number;
    });
  return {
    name: `gated activation ${kind}`,
    inputs: { x: f32({ shape: [N, 2 * F], values: beside(gate.values, up.values) }), dout: f32(dout) },
    record: (rec, v) => withGradients(rec, v, ["x"], () => gatedOp(rec, at(v, "x"), kind)),
    expected: () => {
      const { dgate, dup } = gatedActivationBackward(kind, gate.values, up.values, dout.values);
      return { out: gatedActivation(kind, gate.values, up.values), dx: beside(dgate, dup) };
    },
  };
}

function normCases(): SelfTestCase[] {
  const [x, weight, bias] = [numbers(6, 3, 4, 5), numbers(7, 4), numbers(8, 4)];
  return [
    ...[16, 13].flatMap((C) => rowNormCases(C)),
    {
      name: "group norm",
      inputs: { x: f32(x), weight: f32(weight), bias: f32(bias) },
      record: (rec, v) => ({
        out: groupNormOp(rec, at(v, "x"), at(v, "weight"), at(v, "bias"), { groups: 2, eps: 1e-5 }),
      }),
      expected: () => ({
        out: groupNorm(x.values, weight.values, {
          ...{ N: 3, C: 4, inner: 5, groups: 2, eps: 1e-5 },
          bias: bias.values,
        }),
      }),
    },
  ];
}

function rowNormCases(C: number): SelfTestCase[] {
  const [x, weight, bias, dout] = [numbers(9, 9, C), numbers(10, C), numbers(11, C), numbers(12, 9, C)];
  const sizes = { N: 9, C, eps: 1e-5 };
  const inputs = { x: f32(x), weight: f32(weight), dout: f32(dout) };
  const layer = () => layerNorm(x.values, weight.values, { ...sizes, bias: bias.values });
  return [
    {
      name: `RMS norm of ${C} columns`,
      inputs,
      record: (rec, v) =>
        withGradients(rec, v, ["x", "weight"], () => rmsNormOp(rec, at(v, "x"), at(v, "weight"), { eps: 1e-5 })),
      expected: () => ({
        out: rmsNorm(x.values, weight.values, sizes).out,
        ...rmsNormBackward(x.values, weight.values, dout.values, sizes),
      }),
    },
    {
      name: `layer norm of ${C} columns`,
      inputs: { ...inputs, bias: f32(bias) },
      record: (rec, v) => ({
        ...withGradients(rec, v, ["x", "weight", "bias"], () =>
          layerNormOp(rec, at(v, "x"), at(v, "weight"), at(v, "bias"), { eps: 1e-5 }),
        ),
        ...rowMoments(rec, at(v, "x"), { eps: 1e-5 }),
      }),
      expected: () => ({
        ...layer(),
        ...layerNormBackward(x.values, weight.values, dout.values, sizes),
      }),
    },
  ];
}

function matrixCases(): SelfTestCase[] {
  const cases: SelfTestCase[] = [];
  for (const [N, I, O] of [
    [1, 32, 20],
    [3, 32, 20],
    [13, 32, 24],
    [13, 30, 21],
  ] as const) {
    const [x, weight, bias] = [numbers(13, N, I), numbers(14, O, I), numbers(15, O)];
    for (const dtype of I % 4 === 0 ? (["f32", "f16"] as const) : (["f32"] as const)) {
      cases.push({
        name: `linear [${N}, ${I}] by [${O}, ${I}] ${dtype}`,
        inputs: { x: f32(x), weight: dtype === "f16" ? f16(weight) : f32(weight), bias: f32(bias) },
        record: (rec, v) => ({ out: linearOp(rec, at(v, "x"), at(v, "weight"), { bias: at(v, "bias") }) }),
        expected: () => ({ out: linear(x.values, weight.values, { N, I, O, bias: bias.values }) }),
      });
    }
  }
  const [x, weight, dout] = [numbers(16, 13, 16), numbers(17, 12, 16), numbers(18, 13, 12)];
  cases.push({
    name: "linear without a bias",
    inputs: { x: f32(x), weight: f32(weight), dout: f32(dout) },
    record: (rec, v) => withGradients(rec, v, ["x", "weight"], () => linearOp(rec, at(v, "x"), at(v, "weight"))),
    expected: () => {
      const sizes = { N: 13, I: 16, O: 12 };
      const { dx, dweight } = linearBackward(x.values, weight.values, dout.values, sizes);
      return { out: linear(x.values, weight.values, sizes), dx, dweight };
    },
  });
  return [...cases, ...(["NN", "NT", "TN"] as const).map(matmulCase)];
}

function matmulCase(layout: MatmulLayout): SelfTestCase {
  const [M, N, K] = [12, 20, 16];
  const [transposeA, transposeB] = [layout === "TN", layout === "NT"];
  const a = numbers(19, 2, ...(transposeA ? [K, M] : [M, K]));
  const b = numbers(20, 2, ...(transposeB ? [N, K] : [K, N]));
  return {
    name: `matmul ${layout}`,
    inputs: { a: f32(a), b: f32(b) },
    record: (rec, v) => ({ out: matmulOp(rec, at(v, "a"), at(v, "b"), { layout }) }),
    expected: () => ({ out: matmul(a.values, b.values, { batch: 2, M, N, K, transposeA, transposeB }) }),
  };
}

function rowCases(): SelfTestCase[] {
  const ids = [2, 0, 2, 6, 5];
  const [logits, cube, dcube] = [numbers(21, 4, 7), numbers(22, 6, 8), numbers(36, 6, 8)];
  const targets = [6, -100, 0, 3];
  const loss = () => crossEntropy(logits.values, targets, { N: 4, V: 7, labelSmoothing: 0.1 });
  const tables = [8, 7].map((C): SelfTestCase => {
    const [table, dout] = [numbers(23, 7, C), numbers(24, 5, C)];
    return {
      name: `embedding of ${C} columns`,
      inputs: { ids: u32(...ids), table: f32(table), dout: f32(dout) },
      record: (rec, v) => withGradients(rec, v, ["table"], () => embeddingOp(rec, at(v, "ids"), at(v, "table"))),
      expected: () => ({
        out: embedding(ids, table.values, { C }),
        dtable: embeddingBackward(ids, dout.values, { V: 7, C }),
      }),
    };
  });
  const half = numbers(25, 7, 8);
  return [
    ...tables,
    {
      name: "embedding f16",
      inputs: { ids: u32(...ids), table: f16(half) },
      record: (rec, v) => ({ out: embeddingOp(rec, at(v, "ids"), at(v, "table")) }),
      expected: () => ({ out: embedding(ids, half.values, { C: 8 }) }),
    },
    {
      name: "softmax",
      inputs: { x: f32(cube), dout: f32(dcube) },
      record: (rec, v) => withGradients(rec, v, ["x"], () => softmaxOp(rec, at(v, "x"), { axis: -1 })),
      expected: () => {
        const { probs } = maskedSoftmax(cube.values, { B: 1, H: 1, T: 6, S: 8 });
        return { out: probs, dx: maskedSoftmaxBackward(probs, dcube.values, 8) };
      },
    },
    {
      name: "cross-entropy",
      inputs: {
        logits: f32(logits),
        targets: { shape: [4], data: Int32Array.from(targets) },
        dout: f32(numbers(1, 1)),
      },
      record: (rec, v): Record<string, Value> => {
        const {
          loss: mean,
          losses,
          lse,
        } = crossEntropyOf(rec, { logits: at(v, "logits"), targets: at(v, "targets") }, { labelSmoothing: 0.1 });
        if (!v["dout"]) return { mean, losses, lse };
        const [dlogits] = gradientsFrom(rec, new Map([[mean, at(v, "dout")]]), [at(v, "logits")]);
        return { dlogits: dlogits as Value };
      },
      expected: () => {
        const { loss: mean, losses, lse, dlogits } = loss();
        const [seed = 1] = numbers(1, 1).values;
        return { mean: [mean], losses, lse, dlogits: dlogits.map((g) => g * seed) };
      },
    },
    ...(["half", "interleaved"] as const).map(ropeCase),
  ];
}

function ropeCase(form: "half" | "interleaved"): SelfTestCase {
  const [x, dout] = [numbers(26, 5, 24), numbers(27, 5, 24)];
  const positions = [0, 3, 1, 7, 2];
  const inverseFrequencies = ropeInverseFrequencies(10_000, 8);
  const options = { heads: 2, headDim: 12, rotaryDim: 8, interleaved: form === "interleaved" };
  const table = { shape: [8, 4, 2], data: ropeTable({ maxPositions: 8, inverseFrequencies }) };
  const dims = { N: 5, H: 2, D: 12, form, positions, inverseFrequencies };
  return {
    name: `rotary embedding, ${form}`,
    inputs: { x: f32(x), positions: u32(...positions), table, dout: f32(dout) },
    record: (rec, v) =>
      withGradients(rec, v, ["x"], () =>
        ropeOp(rec, at(v, "x"), at(v, "positions"), { ...options, table: at(v, "table") }),
      ),
    expected: () => ({ out: rope(x.values, dims), dx: ropeBackward(dout.values, dims) }),
  };
}

interface AttentionProblem {
  readonly name: string;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly options: AttentionOptions;
  /** Of the op: options whose names differ from the reference's, and values. */
  readonly spec?: (values: Values) => object;
  readonly inputs?: Readonly<Record<string, HostTensor>>;
  readonly half?: boolean;
  readonly backward?: boolean;
}

function attentionCases(): SelfTestCase[] {
  const bias = numbers(31, 1, 4, 6, 9);
  const sinks = numbers(32, 4);
  const full: AttentionOptions = {
    causal: true,
    queryStart: 3,
    softcap: 2,
    bias: { data: bias.values, shape: [1, 4, 6, 9] },
    sinks: sinks.values,
  };
  const named = (v: Values) => ({ softcap: 2, bias: at(v, "bias"), sinks: at(v, "sinks") });
  const causal = { causal: true };
  const problems: AttentionProblem[] = [
    { name: "attention", T: 37, S: 37, D: 16, options: causal },
    { name: "attention of wide heads", T: 5, S: 9, D: 160, options: {} },
    { name: "attention of an odd head size", T: 6, S: 9, D: 15, options: {} },
    { name: "attention of few queries", T: 1, S: 40, D: 16, options: { queryStart: 39, window: 20 } },
    { name: "attention of few queries and many keys", T: 1, S: 1100, D: 16, options: {} },
    { name: "attention f16", T: 6, S: 9, D: 16, options: causal, half: true },
    { name: "attention of few queries f16", T: 1, S: 40, D: 16, options: {}, half: true },
    { name: "attention of few rows", T: 6, S: 9, D: 16, options: causal, backward: true },
    {
      ...{ name: "attention with soft cap, bias and sinks", T: 6, S: 9, D: 16, options: full, spec: named },
      inputs: { bias: f32(bias), sinks: f32(sinks) },
    },
  ];
  return problems.flatMap(attentionCase);
}

function attentionCase({ name, T, S, D, options, spec, inputs, half, backward }: AttentionProblem): SelfTestCase[] {
  const [B, H, Hkv] = [1, 4, 2];
  const dims = { B, H, Hkv, T, S, D, Dv: D };
  const [q, k, v, dout] = [
    numbers(28, B, H, T, D),
    numbers(29, B, Hkv, S, D),
    numbers(30, B, Hkv, S, D),
    numbers(33, B, H, T, D),
  ];
  const encode = half ? f16 : f32;
  const sizes = { batch: B, heads: H, kvHeads: Hkv, headDim: D, queryLength: T, keyLength: S, layout: "bhtd" } as const;
  const { causal, window } = options;
  const queryStart = options.queryStart as number | undefined;
  const specOf = (values: Values) => ({ ...sizes, causal, queryStart, window, ...spec?.(values) });
  const qkv = (values: Values) => ({ q: at(values, "q"), k: at(values, "k"), v: at(values, "v") });
  const given = { q: encode(q), k: encode(k), v: encode(v), ...inputs, ...(backward ? { dout: f32(dout) } : {}) };
  const expected = () => ({ ...attention(q.values, k.values, v.values, dims, options) });
  const grads = () => {
    const { dq, dk, dv } = attentionBackward(q.values, k.values, v.values, dout.values, dims, options);
    return { dq, dk, dv };
  };
  if (backward) {
    const withReference = (path: string, forward: (rec: ProgramRecorder, values: Values) => Value): SelfTestCase => ({
      name: name + path,
      inputs: given,
      record: (rec, values) => withGradients(rec, values, ["q", "k", "v"], () => forward(rec, values)),
      expected: () => ({ out: expected().out, ...grads() }),
    });
    return [
      withReference(", by three kernels", (rec, values) => attentionUnfused(rec, qkv(values), specOf(values)).out),
      withReference("", (rec, values) => attentionOp(rec, qkv(values), specOf(values)).out),
    ];
  }
  const fused = (keep: "lse" | undefined): SelfTestCase => ({
    name: keep ? `${name}, with lse` : name,
    inputs: given,
    record: (rec, values): Record<string, Value> => {
      const { out, lse } = attentionOp(rec, qkv(values), { ...specOf(values), keep });
      return lse ? { out, lse } : { out };
    },
    expected,
  });
  const unfused: SelfTestCase = {
    name: `${name}, by three kernels`,
    inputs: given,
    record: (rec, values) => {
      const { out, probs, lse } = attentionUnfused(rec, qkv(values), specOf(values));
      return { out, probs, lse };
    },
    expected,
  };
  return [unfused, fused(undefined), fused("lse")];
}
