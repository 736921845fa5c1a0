import { HeedError } from "../core/errors.ts";
import { activation } from "../ops/activation.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import { crossEntropyOf } from "../ops/cross_entropy.ts";
import { embedding } from "../ops/embedding.ts";
import { gatedActivation } from "../ops/gated_activation.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Value } from "../ops/op.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rope, ropeTable } from "../ops/rope.ts";
import { softmax } from "../ops/softmax.ts";
import { rowsOf, toF32 } from "./arrays.ts";
import type { RecordedOp, TorchCall } from "./torch.ts";

/** The names of the activations in cases. */
const ACTIVATIONS: Readonly<Record<string, ActivationName>> = {
  gelu_tanh: "gelu_tanh",
  gelu_erf: "gelu",
  gelu: "gelu",
  silu: "silu",
  swish: "silu",
  relu: "relu",
  sigmoid: "sigmoid",
  tanh: "tanh",
};

/**
 * The op of a case, found by what its inputs are called and, where that leaves a choice, by the case's name or what it says of itself.
 * Throws `UNSUPPORTED` naming what Heed lacks.
 */
export function torchOp(call: TorchCall): RecordedOp {
  const { name, inputs } = call;
  if (inputs["gate"] && inputs["up"]) return gated(call);
  if (inputs["ids"]) return embeddingOp(call);
  if (inputs["logits"]) return crossEntropyOp(call);
  if (inputs["x"] && inputs["weight"]) return weighted(call);
  if (inputs["x"]) return call.options["theta"] === undefined ? elementwise(call) : ropeOp(call);
  throw new HeedError("UNSUPPORTED", `the op of case "${name}"`);
}

function weighted(call: TorchCall): RecordedOp {
  if (call.input("weight").shape.length === 2) return linearOp(call);
  const said = `${call.name} ${call.doc}`;
  const isLayer = /layer.?norm/i.test(said) || (!/rms/i.test(said) && call.inputs["bias"] !== undefined);
  const eps = call.number("eps") ?? (isLayer ? 1e-5 : 1e-6);
  const { x, weight, bias } = f32Inputs(call, "x", "weight", "bias");
  return {
    op: isLayer ? "layer_norm" : "rms_norm",
    inputs: { x: rowsOf(x as NonNullable<typeof x>), weight, ...(bias ? { bias } : {}) } as RecordedOp["inputs"],
    attrs: { eps },
    gradients: { x: "dx", weight: "dweight", ...(bias ? { bias: "dbias" } : {}) },
    record: (rec, v) => ({
      out: isLayer
        ? layerNorm(rec, v["x"] as Value, v["weight"] as Value, v["bias"], { eps })
        : rmsNorm(rec, v["x"] as Value, v["weight"] as Value, { eps }),
    }),
  };
}

function linearOp(call: TorchCall): RecordedOp {
  const { weight, bias } = f32Inputs(call, "weight", "bias");
  return {
    op: "linear",
    inputs: { x: rowsOf(call.input("x")), weight, ...(bias ? { bias } : {}) } as RecordedOp["inputs"],
    gradients: { x: "dx", weight: "dweight", ...(bias ? { bias: "dbias" } : {}) },
    record: (rec, v) => ({ out: linear(rec, v["x"] as Value, v["weight"] as Value, { bias: v["bias"] }) }),
  };
}

/** gate and up beside each other, as the op takes them. */
function gated(call: TorchCall): RecordedOp {
  const kind = gateKind(call.name);
  return {
    op: "gated_activation",
    inputs: { gate: rowsOf(call.input("gate")), up: rowsOf(call.input("up")) },
    attrs: { kind },
    gradients: { gate: "dgate", up: "dup" },
    record: (rec, v) => ({
      out: gatedActivation(rec, concatColumns(rec, [v["gate"] as Value, v["up"] as Value]), kind),
    }),
  };
}

function gateKind(name: string): ActivationName {
  const kinds: readonly (readonly [string, ActivationName])[] = [
    ["swiglu", "silu"],
    ["geglu_tanh", "gelu_tanh"],
    ["geglu", "gelu"],
    ["reglu", "relu"],
    ["glu", "sigmoid"],
  ];
  const found = kinds.find(([prefix]) => name.startsWith(prefix));
  if (!found) throw new HeedError("UNSUPPORTED", `the gate of case "${name}"`);
  return found[1];
}

function embeddingOp(call: TorchCall): RecordedOp {
  const ids = call.input("ids");
  return {
    op: "embedding",
    inputs: {
      ids: { shape: [ids.data.length], data: Uint32Array.from(ids.data) },
      weight: toF32(call.input("weight")),
    },
    gradients: { weight: "dweight" },
    record: (rec, v) => ({ out: embedding(rec, v["ids"] as Value, v["weight"] as Value) }),
  };
}

function crossEntropyOp(call: TorchCall): RecordedOp {
  const reduction = call.options["reduction"] ?? "mean";
  if (reduction !== "mean" && reduction !== "sum" && reduction !== "none") {
    throw new HeedError("UNSUPPORTED", `cross-entropy with reduction "${String(reduction)}"`);
  }
  const attrs = {
    labelSmoothing: call.number("label_smoothing"),
    ignoreIndex: call.number("ignore_index"),
    reduction: reduction === "sum" ? "sum" : "mean",
  } as const;
  const weights = call.inputs["weight"] ?? call.inputs["weights"];
  return {
    op: "cross_entropy",
    inputs: {
      logits: toF32(call.input("logits")),
      targets: call.input("targets"),
      ...(weights ? { weights: toF32(weights) } : {}),
    },
    attrs: { ...attrs, reduction },
    gradients: { logits: "dlogits" },
    seeded: "loss",
    record(rec, v) {
      const inputs = { logits: v["logits"] as Value, targets: v["targets"] as Value, weights: v["weights"] };
      const { loss, losses } = crossEntropyOf(rec, inputs, attrs);
      return { loss: reduction === "none" ? losses : loss };
    },
  };
}

function elementwise(call: TorchCall): RecordedOp {
  const { name } = call;
  const found = Object.keys(ACTIVATIONS).find((prefix) => name.startsWith(prefix));
  const isSoftmax = name.startsWith("softmax") || name.startsWith("log_softmax");
  if (!found && !isSoftmax) throw new HeedError("UNSUPPORTED", `the op of case "${name}"`);
  const attrs = { axis: call.number("dim") ?? call.number("axis") ?? -1, logarithm: name.startsWith("log_") };
  const kind = ACTIVATIONS[found ?? ""];
  return {
    op: kind ? "activation" : "softmax",
    inputs: { x: kind ? rowsOf(call.input("x")) : toF32(call.input("x")) },
    attrs: kind ? { kind } : attrs,
    gradients: { x: "dx" },
    record: (rec, v) => ({
      out: kind ? activation(rec, v["x"] as Value, kind) : softmax(rec, v["x"] as Value, attrs),
    }),
  };
}

/** x `[…, T, D]`; positions begin at `options.start`. */
function ropeOp(call: TorchCall): RecordedOp {
  const x = rowsOf(call.input("x"));
  const [length, headDim] = call.input("x").shape.slice(-2) as [number, number];
  const start = call.number("start") ?? 0;
  const rotaryDim = call.number("rotary") ?? headDim;
  const theta = call.number("theta") ?? 10_000;
  const interleaved = call.options["interleaved"] === true || /interleaved|pairs/.test(`${call.name} ${call.doc}`);
  const attrs = { heads: 1, headDim, rotaryDim, interleaved };
  const inverseFrequencies = Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** ((-2 * i) / rotaryDim));
  const maxPositions = start + length;
  const rows = x.shape[0] as number;
  return {
    op: "rope",
    inputs: {
      x,
      positions: { shape: [rows], data: Uint32Array.from({ length: rows }, (_, n) => start + (n % length)) },
      table: {
        shape: [maxPositions, rotaryDim / 2, 2],
        data: ropeTable({ maxPositions, inverseFrequencies }),
      },
    },
    attrs,
    gradients: { x: "dx" },
    record: (rec, v) => ({
      out: rope(rec, v["x"] as Value, v["positions"] as Value, { ...attrs, table: v["table"] as Value }),
    }),
  };
}

function f32Inputs(call: TorchCall, ...names: readonly string[]) {
  return Object.fromEntries(
    names.map((name) => [name, call.inputs[name] && toF32(call.inputs[name])] as const),
  ) as Record<string, ReturnType<typeof toF32> | undefined>;
}
