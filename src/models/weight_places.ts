import { bytesPerElement } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import { f32BitsToF16Bits } from "../formats/convert.ts";
import { quantise } from "../formats/quantise.ts";
import { Tensor } from "../gpu/tensor.ts";
import { mapLeaves, mapRules, type Model, type WeightRule, type WeightTree } from "./family.ts";
import { publishedNames } from "./head_names.ts";
import { placedRows, transposed } from "./placed_runs.ts";

/** Where a tensor of the checkpoint is in a loaded model: all rows of a weight, or some where the loader joined several. */
export interface WeightPlace {
  /** Its name in `transformers`, such as `model.norm.weight`. */
  readonly name: string;
  readonly tensor: Tensor;
  readonly rule: WeightRule;
  readonly rowStart: number;
  readonly rows: number;
}

/** Every tensor of a loaded model, by the names that `transformers` gives them for the architecture in `config`. */
export function weightPlaces(
  model: Model,
  tree: WeightTree<Tensor>,
  config: Readonly<Record<string, unknown>> = {},
): WeightPlace[] {
  const nameOf = publishedNames(model, config);
  const [rules, tensors]: [WeightRule[], Tensor[]] = [[], []];
  mapRules(model.rules, (rule) => rules.push(rule));
  mapLeaves(
    tree,
    (node): node is Tensor => node instanceof Tensor,
    (tensor) => tensors.push(tensor),
  );
  const seen = new Set<Tensor>();
  return rules.flatMap((rule, i) => {
    const tensor = tensors[i];
    if (!tensor || seen.has(tensor)) return [];
    seen.add(tensor);
    let rowStart = 0;
    return rule.from.map((from, part): WeightPlace => {
      const rows = rule.rows?.[part] ?? rule.shape[0] ?? 1;
      rowStart += rows;
      return { name: nameOf(from), tensor, rule, rowStart: rowStart - rows, rows };
    });
  });
}

/** The shape that the tensor of a place has in a checkpoint. */
export function placeShape({ rule, rows }: WeightPlace): Shape {
  if (rule.stored) return rule.stored;
  const shape = [rows, ...rule.shape.slice(1)];
  return rule.turned ? shape.reverse() : shape;
}

/** First byte of a place in its tensor. */
export function placeStart({ tensor, rowStart }: WeightPlace): number {
  return rowStart * (numel(tensor.shape) / (tensor.shape[0] ?? 1)) * bytesPerElement(tensor.dtype);
}

/** A checkpoint's numbers in the order that the weights have at a place. */
export function placedValues({ rule, rows }: WeightPlace, data: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const columns = data.length / rows;
  const out = placedRows(rule.turned ? transposed(data, columns, rows) : data, rule.perHead);
  const { offset } = rule;
  return offset ? out.map((value) => value + offset) : out;
}

/** Numbers as the bytes that the weight of a place keeps them in. Throws `UNSUPPORTED` for formats that only files are packed in. */
export function weightBytes({ name, tensor }: WeightPlace, data: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { dtype, parts } = tensor;
  if (parts.every((part) => part.dtype === dtype)) {
    if (dtype === "f32") return new Uint8Array(data.buffer);
    if (dtype === "f16") return new Uint8Array(floatsToHalves(data).buffer);
    if (dtype === "q8_0" || dtype === "q4_0") return quantise(dtype, data);
  }
  throw new HeedError(
    "UNSUPPORTED",
    `adapter: a tensor that is brought whole can be kept in f32, f16, q8_0 or q4_0; got ${name} in ${dtype}. Load the model from its unquantised checkpoint.`,
  );
}

/** f32 numbers as the bits of f16 ones. */
export function floatsToHalves(floats: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(new Uint32Array(floats.buffer, floats.byteOffset, floats.length), f32BitsToF16Bits);
}
