import { HeedError } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import type { ArrayTensor } from "../program/direct.ts";
import type { CallOptions } from "../tasks/direct_options.ts";
import { broadcastTo, type CaseTensor, toF32 } from "./arrays.ts";
import type { NodeCall, NodeOutput, NodeRunner } from "./onnx.ts";
import type { CaseRun } from "./run.ts";

/** The operators of ONNX that Heed has, attention aside, with the defaults of their specifications. */
export const ONNX_OPS: Readonly<Record<string, NodeRunner>> = {
  Softmax: (run, call) => softmax(run, call, false),
  LogSoftmax: (run, call) => softmax(run, call, true),
  Gelu: (run, call) => elementwise(run, call, geluKind(call)),
  Relu: (run, call) => elementwise(run, call, "relu"),
  Sigmoid: (run, call) => elementwise(run, call, "sigmoid"),
  Tanh: (run, call) => elementwise(run, call, "tanh"),
  Swish: swish,
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization,
  GroupNormalization: groupNormalization,
  RotaryEmbedding: rotaryEmbedding,
  SoftmaxCrossEntropyLoss: (run, call) => loss(run, call, false),
  NegativeLogLikelihoodLoss: (run, call) => loss(run, call, true),
  MatMul: matMul,
};

/** Makes a call whose result is an output. */
async function output(
  run: CaseRun,
  make: (how: CallOptions & { readonly as: "array" }) => Promise<ArrayTensor>,
  shape?: readonly number[],
): Promise<NodeOutput> {
  const { result, kernels } = await run.call((how) => make({ ...how, as: "array" }));
  return { tensor: shape ? { shape, data: result.data } : result, precision: "op", kernels };
}

async function softmax(run: CaseRun, call: NodeCall, logarithm: boolean): Promise<NodeOutput[]> {
  const x = toF32(call.input(0));
  // Before version 13 the axis was 1 and everything from it on was one row.
  const flat = call.opset < 13;
  const axis = call.number("axis", flat ? 1 : -1);
  const at = axis < 0 ? axis + x.shape.length : axis;
  const rows = flat ? [numel(x.shape.slice(0, at)), numel(x.shape.slice(at))] : x.shape;
  const input = { shape: rows, data: x.data };
  const name = logarithm ? "logSoftmax" : "softmax";
  return [await output(run, (how) => run.engine[name](input, { axis: flat ? 1 : axis, ...how }), x.shape)];
}

async function elementwise(run: CaseRun, call: NodeCall, kind: ActivationName): Promise<NodeOutput[]> {
  return [await output(run, (how) => run.engine.activation(toF32(call.input(0)), kind, how))];
}

function geluKind({ node }: NodeCall): ActivationName {
  const form = node.attributes["approximate"] ?? "none";
  if (form === "none") return "gelu";
  if (form === "tanh") return "gelu_tanh";
  throw new HeedError("UNSUPPORTED", `Gelu with approximate "${String(form)}"`);
}

/** `x · sigmoid(αx) = silu(αx) / α`. */
async function swish(run: CaseRun, call: NodeCall): Promise<NodeOutput[]> {
  const alpha = call.number("alpha", 1);
  if (alpha === 1) return elementwise(run, call, "silu");
  throw new HeedError("UNSUPPORTED", `Swish with alpha ${alpha}`);
}

/** x as rows of the normalised axes, and gains of their shape. */
function normOperands(call: NodeCall) {
  const x = toF32(call.input(0));
  const axis = call.number("axis", -1);
  const at = axis < 0 ? axis + x.shape.length : axis;
  const normalised = x.shape.slice(at);
  const gain = (index: number): ArrayTensor | undefined => {
    const given = call.inputs[index];
    if (!given) return undefined;
    const data = broadcastTo(toF32(given), normalised);
    if (!data) throw new HeedError("UNSUPPORTED", `${call.node.op} with a gain or bias that differs between rows`);
    return { shape: [data.length], data };
  };
  const rows = { shape: [numel(x.shape.slice(0, at)), numel(normalised)], data: x.data };
  const reduced = x.shape.map((d, i) => (i < at ? d : 1));
  return { x, rows, weight: gain(1), bias: gain(2), reduced, eps: call.number("epsilon", 1e-5) };
}

async function layerNormalization(run: CaseRun, call: NodeCall): Promise<(NodeOutput | undefined)[]> {
  const { x, rows, weight, bias, reduced, eps } = normOperands(call);
  const gain = weight ?? ones(rows.shape[1] as number);
  const y = await output(run, (how) => run.engine.layerNorm(rows, gain, { bias, eps, ...how }), x.shape);
  if (!call.wants(1) && !call.wants(2)) return [y];
  const { result, kernels } = await run.call((how) => run.engine.rowMoments(rows, { eps, ...how, as: "array" }));
  const moment = ({ data }: ArrayTensor): NodeOutput => ({
    tensor: { shape: reduced, data },
    precision: "op",
    kernels,
  });
  return [y, moment(result.mean), moment(result.rstd)];
}

async function rmsNormalization(run: CaseRun, call: NodeCall): Promise<NodeOutput[]> {
  const { x, rows, weight, eps } = normOperands(call);
  const gain = weight ?? ones(rows.shape[1] as number);
  return [await output(run, (how) => run.engine.rmsNorm(rows, gain, { eps, ...how }), x.shape)];
}

async function groupNormalization(run: CaseRun, call: NodeCall): Promise<NodeOutput[]> {
  const x = toF32(call.input(0));
  const groups = call.number("num_groups", 1);
  const channels = x.shape[1] as number;
  // Before version 21 scale and bias were of groups, not of channels.
  const spread = (tensor: CaseTensor): ArrayTensor => {
    const { data } = toF32(tensor);
    if (data.length === channels) return { shape: [channels], data };
    const each = channels / data.length;
    return {
      shape: [channels],
      data: Float32Array.from({ length: channels }, (_, c) => data[Math.floor(c / each)] as number),
    };
  };
  const [weight, bias] = [spread(call.input(1)), call.inputs[2] && spread(call.inputs[2])];
  const eps = call.number("epsilon", 1e-5);
  return [await output(run, (how) => run.engine.groupNorm(x, weight, { groups, bias, eps, ...how }))];
}

async function rotaryEmbedding(run: CaseRun, call: NodeCall): Promise<NodeOutput[]> {
  const x = toF32(call.input(0));
  const [cos, sin, ids] = [toF32(call.input(1)), toF32(call.input(2)), call.inputs[3]];
  const is4D = x.shape.length === 4;
  const heads = is4D ? 1 : call.number("num_heads", 0);
  if (heads < 1) throw new HeedError("BAD_FILE", "conformance: RotaryEmbedding needs num_heads for [B, T, H·D].");
  const [batch, length] = is4D ? [x.shape[0] as number, x.shape[2] as number] : (x.shape as [number, number]);
  const headDim = (x.shape.at(-1) as number) / heads;
  const rows = x.data.length / (heads * headDim);
  const pairs = cos.shape.at(-1) as number;
  const data = new Float32Array(cos.data.length * 2);
  for (let i = 0; i < cos.data.length; i++) data.set([cos.data[i] as number, sin.data[i] as number], 2 * i);
  const perBatch = rows / batch;
  // Without ids the caches are [B, T, pairs]: each token has its own row.
  const positions = Uint32Array.from({ length: rows }, (_, n) => {
    const token = Math.floor(n / perBatch) * length + (n % length);
    return ids ? (ids.data[token % ids.data.length] as number) : token % (cos.data.length / pairs);
  });
  const options = {
    positions: { shape: [rows], data: positions },
    table: { shape: [cos.data.length / pairs, pairs, 2], data },
    rotaryDim: call.number("rotary_embedding_dim", 0) || headDim,
    interleaved: call.number("interleaved", 0) === 1,
  };
  const input = { shape: [rows, heads, headDim], data: x.data };
  return [await output(run, (how) => run.engine.rope(input, { ...options, ...how }), x.shape)];
}

async function loss(run: CaseRun, call: NodeCall, fromLogProbs: boolean): Promise<(NodeOutput | undefined)[]> {
  const logits = toF32(call.input(0));
  const targets = call.input(1);
  const weights = call.inputs[2] && toF32(call.inputs[2]);
  const reduction = call.node.attributes["reduction"] ?? "mean";
  if (reduction !== "mean" && reduction !== "sum" && reduction !== "none") {
    throw new HeedError("UNSUPPORTED", `${call.node.op} with reduction "${String(reduction)}"`);
  }
  const options = {
    weights,
    fromLogProbs,
    ignoreIndex: call.number("ignore_index"),
    reduction: reduction === "sum" ? "sum" : "mean",
  } as const;
  const z = await output(
    run,
    async (how) => {
      const result = await run.engine.crossEntropy(logits, targets, { ...options, ...how });
      return reduction === "none" ? result.losses : result.loss;
    },
    reduction === "none" ? targets.shape : [],
  );
  if (!call.wants(1)) return [z];
  return [z, await output(run, (how) => run.engine.logSoftmax(logits, { axis: 1, ...how }))];
}

async function matMul(run: CaseRun, call: NodeCall): Promise<NodeOutput[]> {
  const [a, b] = [toF32(call.input(0)), toF32(call.input(1))];
  const alike = a.shape.length === b.shape.length && a.shape.slice(0, -2).every((d, i) => d === b.shape[i]);
  if (a.shape.length < 2 || (b.shape.length !== 2 && !alike)) {
    throw new HeedError("UNSUPPORTED", `MatMul of [${a.shape.join(", ")}] and [${b.shape.join(", ")}]`);
  }
  // One matrix for all of a's is one product of all its rows.
  if (b.shape.length === 2) {
    const rows = { shape: [numel(a.shape.slice(0, -1)), a.shape.at(-1) as number], data: a.data };
    const shape = [...a.shape.slice(0, -1), b.shape[1] as number];
    return [await output(run, (how) => run.engine.matmul(rows, b, how), shape)];
  }
  return [await output(run, (how) => run.engine.matmul(a, b, how))];
}

function ones(length: number): ArrayTensor {
  return { shape: [length], data: new Float32Array(length).fill(1) };
}
