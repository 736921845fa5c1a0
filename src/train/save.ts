import { HeedError } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { f32BitsToF16Bits } from "../formats/convert.ts";
import { encodeSafetensors, type TensorToWrite } from "../formats/safetensors_write.ts";
import type { WeightRule, WeightTree } from "../models/family.ts";
import { publishedRows, transposed } from "../models/placed_runs.ts";
import { asMarian, marianConfig, type NamedTensor } from "../models/transformer/as_marian.ts";
import { ruledTensors } from "./parameters.ts";

/** How a model is written. */
export interface SaveOptions {
  /** Of matrices; vectors stay f32 in `f32` and become f16 in `f16`. Default `f32`. */
  readonly dtype?: "f32" | "f16";
}

/** Throws `USAGE` for a dtype that no model is written in. */
export function checkSavedDType(dtype: unknown): void {
  if (dtype === "f32" || dtype === "f16") return;
  throw new HeedError("USAGE", `files: dtype must be f32 or f16; got ${JSON.stringify(dtype)}. Write one of them.`);
}

/** How {@link encodeModel} reads. */
export interface EncodeModelOptions extends SaveOptions {
  /** Gives a tensor's bytes. Default: those on the GPU. */
  readonly read?: (tensor: Tensor) => Promise<ArrayBuffer>;
  /** Makes of a tensor those that are written. Default: itself. */
  readonly convert?: PublishedForm["convert"];
}

/** A finished model as the Hub's readers know it. */
export interface PublishedForm {
  readonly config: Readonly<Record<string, unknown>>;
  readonly convert: (tensor: NamedTensor) => readonly NamedTensor[];
}

/** How a model with this config.json is published: as it is, but for the 2017 transformer, which `transformers` knows as Marian's. */
export function publishedForm(config: Readonly<Record<string, unknown>>): PublishedForm {
  if (config["model_type"] !== "transformer") return { config, convert: (tensor) => [tensor] };
  return { config: marianConfig(config), convert: (tensor) => asMarian(tensor, config) };
}

/**
 * `model.safetensors` of trained weights under the checkpoint's names and layouts, as chunks in order: what {@link WeightRule}s joined, turned or set
 * apart at load is put back. `format: pt` stands in its metadata, as `transformers` asks for. Throws `UNSUPPORTED` for weights that are not f32.
 */
export async function encodeModel(
  rules: WeightTree<WeightRule>,
  tree: WeightTree<Tensor>,
  { dtype = "f32", read = (tensor) => tensor.read(), convert = (tensor) => [tensor] }: EncodeModelOptions = {},
): Promise<Uint8Array[]> {
  const tensors = new Map<string, TensorToWrite>();
  for (const { rule, tensor } of ruledTensors(rules, tree)) {
    if (tensor.dtype !== "f32") {
      throw new HeedError("UNSUPPORTED", `save: weights must be f32; got ${tensor.label} in ${tensor.dtype}.`);
    }
    const data = new Float32Array(await read(tensor));
    for (const { name, shape, data: part } of checkpointTensors(rule, data).flatMap(convert)) {
      const format = dtype;
      tensors.set(name, { format, shape, data: dtype === "f16" ? toF16(name, part) : part });
    }
  }
  return encodeSafetensors(tensors, { format: "pt" });
}

/** A number that is written as one with a fraction, after its name. */
const FLOAT = /("(?:[^"\\]|\\.)*")\s*:\s*(-?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+))\s*[,}\n]/g;

/** Fields that `transformers` takes as floats alone. */
const FLOAT_FIELDS = /(dropout|layerdrop|_pdrop|_rate|_prob|_eps|_epsilon|_factor|_range|_std|_theta)"$/;

/**
 * config.json of weights that are written in `dtype`, which it then names if it names any. What `original` writes as a float stays one, and so
 * does what is one by its name: `1.0`, which JavaScript takes for 1 and `transformers` refuses as a whole number.
 */
export function configJson(
  config: Readonly<Record<string, unknown>>,
  { dtype = "f32", original = "" }: SaveOptions & { readonly original?: string | undefined } = {},
): string {
  const written = { ...config };
  for (const name of ["dtype", "torch_dtype"]) {
    if (typeof written[name] === "string") written[name] = dtype === "f16" ? "float16" : "float32";
  }
  const floats = new Map<string, string[]>();
  for (const [, name = "", literal = ""] of original.matchAll(FLOAT)) {
    floats.set(name, [...(floats.get(name) ?? []), literal]);
  }
  const text = JSON.stringify(written, null, 2).replace(
    /^(\s*)("(?:[^"\\]|\\.)*"): (-?\d+)(?=,?$)/gm,
    (line, indent: string, name: string, digits: string) => {
      const literals = floats.get(name);
      const isFloat = literals ? literals.some((n) => Number(n) === Number(digits)) : FLOAT_FIELDS.test(name);
      return isFloat ? `${indent}${name}: ${digits}.0` : line;
    },
  );
  return `${text}\n`;
}

/** The checkpoint's tensors that a weight was made of. */
function checkpointTensors(rule: WeightRule, data: Float32Array<ArrayBuffer>): NamedTensor[] {
  const { from, turned, perHead, rows, offset = 0 } = rule;
  const shape = rule.stored ?? rule.shape;
  const [total = 1, ...rest] = shape;
  const rowSize = numel(rest);
  if (turned) return [{ name: from[0] ?? "", shape: [...shape].reverse(), data: transposed(data, total, rowSize) }];
  const own = perHead ? publishedRows(data, perHead) : data.map((x) => x - offset);
  let at = 0;
  return from.map((name, i) => {
    const count = rows?.[i] ?? total;
    const part = own.subarray(at * rowSize, (at + count) * rowSize);
    at += count;
    return { name, shape: [count, ...rest], data: part };
  });
}

function toF16(name: string, data: Float32Array): Uint16Array {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  return Uint16Array.from(bits, (b, i) => {
    const half = f32BitsToF16Bits(b);
    if ((half & 0x7c00) !== 0x7c00) return half;
    throw new HeedError("UNSUPPORTED", `save: f16 cannot hold ${data[i]} of ${name}. Save as f32.`);
  });
}
