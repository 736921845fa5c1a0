import { formatTensor, sameShape, shapeError } from "../core/shape.ts";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import type { Dispatch, Value } from "./op.ts";
import { elemPart, layoutIn, rowReduction, rowsAndColumns } from "./rows.ts";

/** Throws `SHAPE` unless a gain or bias is `[C]` f32. */
export function checkGain(op: string, name: string, value: Value | undefined, columns: number): void {
  if (value?.dtype === "f32" && sameShape(value.shape, [columns])) return;
  const got = value ? formatTensor(name, value) : "nothing";
  throw shapeError(op, `${name} must be [C] f32 with C = ${columns}`, got, "Load norm weights as f32.");
}

/** Throws `SHAPE` unless both are `[N, C]` f32 of one shape. */
export function checkSameRows(op: string, a: Value | undefined, b: Value | undefined): void {
  const [left, right] = [rowsAndColumns(op, "the first input", a), rowsAndColumns(op, "the second input", b)];
  if (left.rows === right.rows && left.columns === right.columns) return;
  const got = [a, b].map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
  throw shapeError(op, "both inputs must be [N, C] of one shape", got);
}

/** Kernel, params and workgroups of a norm over `heads` parts of each row of `x`; `extra` are the kernel's own params. */
export function normForward(
  kernel: Shader,
  x: Value,
  facts: GpuFacts,
  extra: Readonly<Record<string, number>>,
  heads = 1,
): Pick<Dispatch, "kernel" | "params" | "workgroups"> {
  return normDispatch(kernel, x, { facts, heads, sizes: [] }, () => extra);
}

/** The same for the gradient, whose `dout` may be a view too. */
export function normBackward(
  kernel: Shader,
  x: Value,
  dout: Value,
  facts: GpuFacts,
  extra: Readonly<Record<string, number>>,
  heads = 1,
): Pick<Dispatch, "kernel" | "params" | "workgroups"> {
  return normDispatch(kernel, x, { facts, heads, sizes: Object.values(layoutIn(dout, 1)) }, (width) => {
    const { offset, rowStride } = layoutIn(dout, width);
    return { ...extra, grad_offset: offset, grad_stride: rowStride };
  });
}

function normDispatch(
  kernel: Shader,
  x: Value,
  { facts, heads, sizes }: { readonly facts: GpuFacts; readonly heads: number; readonly sizes: readonly number[] },
  extra: (width: number) => Readonly<Record<string, number>>,
): Pick<Dispatch, "kernel" | "params" | "workgroups"> {
  const whole = rowsAndColumns(kernel.file, "x", x);
  const [rows, columns] = [whole.rows * heads, whole.columns / heads];
  const elem = elemPart(columns, ...Object.values(layoutIn(x, 1)), ...sizes);
  const { offset, rowStride } = layoutIn(x, elem.width);
  const { variant, workgroups } = rowReduction(facts, rows, columns / elem.width);
  return {
    kernel: { ...variant, kernel, parts: [elem.part, ...(variant.parts ?? [])] },
    params: {
      rows,
      columns: columns / elem.width,
      offset,
      row_stride: rowStride,
      width: columns,
      ...extra(elem.width),
    },
    workgroups,
  };
}
