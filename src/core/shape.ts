import { HeedError } from "./errors.ts";

/** Dimensions, outermost first; row-major. */
export type Shape = readonly number[];

/** Number of elements; 1 for a scalar shape `[]`. */
export function numel(shape: Shape): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** `[1, 12, 64, 64]`, as messages print it. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** True if both shapes have the same dimensions. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** `q [1, 12, 64, 64] f16`, as messages print a tensor. */
export function formatTensor(name: string, t: { shape: Shape; dtype: string }): string {
  return `${name} ${formatShape(t.shape)} ${t.dtype}`;
}

/** Throws `SHAPE` in the house form: `op: rule; got values. mend`. */
export function shapeError(op: string, rule: string, got: string, mend = ""): HeedError {
  return new HeedError("SHAPE", `${op}: ${rule}; got ${got}.${mend ? ` ${mend}` : ""}`);
}

/** The dimension at `axis`, counted from the end when negative. */
export function dim(shape: Shape, axis: number): number {
  const d = shape[axis < 0 ? shape.length + axis : axis];
  if (d === undefined) throw new HeedError("INTERNAL", `shape ${formatShape(shape)} has no axis ${axis}`);
  return d;
}

export function ceilDiv(a: number, b: number): number {
  return Math.ceil(a / b);
}

export function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
