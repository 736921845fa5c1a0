import padCode from "../../shaders/pad_heads.wgsl";
import { ceilDiv, numel } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { elementPart, link } from "./attention_parts.ts";
import type { HeadStrides } from "./attention_spec.ts";
import { type Dispatch, shader, spreadWorkgroups, type Value } from "./op.ts";

const PAD = shader("pad_heads.wgsl", padCode);

/** A tensor of heads `[B, H, T, dim]` in memory. */
export interface Heads {
  readonly value: Value;
  readonly strides: HeadStrides;
  readonly heads: number;
  readonly length: number;
  readonly dim: number;
}

/** True if vec4 loads reach every head and row of these tensors. */
export function isAligned(...tensors: readonly Heads[]): boolean {
  return tensors.every(({ strides, dim }) => [dim, ...Object.values(strides)].every((n) => n % 4 === 0));
}

/** The shape and strides of heads in `[B, H, T, D]` order, D rounded up to a multiple of 4. */
export function paddedShape(batch: number, { heads, length, dim }: Heads): { shape: number[]; strides: HeadStrides } {
  const width = ceilDiv(dim, 4) * 4;
  return {
    shape: [batch, heads, length, width],
    strides: { offset: 0, batch: heads * length * width, head: length * width, row: width },
  };
}

/** The dispatch that copies heads from one layout and width to another, f32; the new columns are 0. */
export function padDispatch(from: Heads, to: Heads, facts: GpuFacts): Dispatch {
  const batch = numel(from.value.shape) / (from.heads * from.length * from.dim);
  const count = batch * to.heads * to.length * to.dim;
  return {
    kernel: link(PAD, elementPart(from.value.dtype as "f32" | "f16", facts)),
    bindings: { x: from.value, out: to.value },
    params: {
      count,
      heads: to.heads,
      rows: to.length,
      in_width: from.dim,
      out_width: to.dim,
      x_offset: from.strides.offset,
      x_batch: from.strides.batch,
      x_head: from.strides.head,
      x_row: from.strides.row,
      out_batch: to.strides.batch,
      out_head: to.strides.head,
      out_row: to.strides.row,
    },
    workgroups: spreadWorkgroups(ceilDiv(count, 64)),
  };
}
