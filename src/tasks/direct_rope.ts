import { formatShape, numel, type Shape, shapeError } from "../core/shape.ts";
import { Tensor } from "../gpu/tensor.ts";
import { ropeTable } from "../ops/rope.ts";
import type { ArrayTensor, OpInput } from "../program/direct.ts";
import type { RopeCallOptions } from "./direct_options.ts";
import { reshaped, shapeOf } from "./direct_shapes.ts";

/** What a rotary embedding takes: x and positions as rows, a table of angles, and the op's attributes. */
export interface RopeOperands {
  readonly inputs: { readonly x: OpInput; readonly positions: OpInput; readonly table: OpInput };
  readonly attrs: {
    readonly heads: number;
    readonly headDim: number;
    readonly rotaryDim: number;
    readonly interleaved: boolean;
  };
  /** Of x, and of the result. */
  readonly shape: Shape;
}

/** The operands of a direct call: x `[…, T, H, D]` or `[T, D]`. Throws `SHAPE` for positions on the GPU without a table. */
export function ropeOperands(
  x: OpInput,
  { positions, table, theta = 10_000, maxPositions, rotaryDim, interleaved = false }: RopeCallOptions,
): RopeOperands {
  const shape = shapeOf(x);
  const headDim = shape.at(-1) ?? 0;
  const heads = shape.length > 2 ? (shape.at(-2) ?? 1) : 1;
  const length = shape.at(shape.length > 2 ? -3 : -2) ?? 1;
  const rotary = rotaryDim ?? headDim;
  const rows = numel(shape) / Math.max(1, heads * headDim);
  const given = positions ?? { shape: [rows], data: Uint32Array.from({ length: rows }, (_, n) => n % length) };
  const angles = table ?? defaultTable(theta, rotary, maxPositions ?? Math.max(1, longest(given, length)));
  return {
    inputs: { x: reshaped(x, [rows, heads * headDim]), positions: reshaped(given, [rows]), table: angles },
    attrs: { heads, headDim, rotaryDim: rotary, interleaved },
    shape,
  };
}

/** Rows of the default table: those that the positions need, where they are on the host. */
function longest(positions: OpInput, length: number): number {
  if (positions instanceof Tensor) {
    const mend = "Give maxPositions or a table.";
    throw shapeError("rope", "positions on the GPU need a table of known length", formatShape(positions.shape), mend);
  }
  let most = length - 1;
  for (const p of positions?.data ?? []) most = Math.max(most, p);
  return most + 1;
}

function defaultTable(theta: number, rotary: number, maxPositions: number): ArrayTensor {
  const inverseFrequencies = Array.from({ length: Math.floor(rotary / 2) }, (_, i) => theta ** ((-2 * i) / rotary));
  const data = ropeTable({ maxPositions, inverseFrequencies });
  return { shape: [maxPositions, inverseFrequencies.length, 2], data };
}
