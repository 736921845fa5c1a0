import { numel, sameShape, type Shape } from "../core/shape.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { OpInput } from "../program/direct.ts";

/** The shape of an operand; none of what is no tensor, which is refused where the call is checked. */
export function shapeOf(input: OpInput): Shape {
  return input?.shape ?? [];
}

/** `[…, C]` as `[N, C]`. */
export function asRows(x: OpInput): OpInput {
  const columns = shapeOf(x).at(-1) ?? 1;
  return reshaped(x, [columns === 0 ? 0 : numel(shapeOf(x)) / columns, columns]);
}

/** The same numbers in another shape; what is no tensor and no array is refused where the call is checked. */
export function reshaped(input: OpInput, shape: Shape): OpInput {
  if (input instanceof Tensor) return sameShape(input.shape, shape) ? input : input.reshape(shape);
  if (!input?.data || numel(shapeOf(input)) !== input.data.length) return input;
  return { shape, data: input.data };
}
