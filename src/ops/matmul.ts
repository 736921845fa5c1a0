import { isPacked } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import { dim, formatTensor, numel, shapeError, type Shape } from "../core/shape.ts";
import { type MatmulCall, type MatmulKernel, matmulDispatch, type OperandLayout } from "./matmul_kernels.ts";
import { type LowerContext, only, type OpDef, type OpNode, type Recorder, rowLayout, type Value } from "./op.ts";
import { need } from "./rows.ts";
import { isWeightDType } from "./weights.ts";

/**
 * How the operands are stored: `N` as it is multiplied, `T` transposed. Of `a`, `N` is `[…, M, K]` and `T` `[…, K, M]`;
 * of `b`, `N` is `[…, K, N]` and `T` `[…, N, K]`, a linear layer's weight.
 */
export type MatmulLayout = "NN" | "NT" | "TN";

/** What a recorded matmul is. */
export interface MatmulAttrs {
  readonly layout: MatmulLayout;
  /** Factor of the product; default 1. */
  readonly alpha?: number;
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: MatmulKernel;
}

interface MatmulSizes {
  readonly batch: number;
  /** Batches of a that share one of b. */
  readonly group: number;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export const MATMUL: OpDef<MatmulAttrs> = {
  name: "matmul",
  infer({ a, b }, attrs) {
    const { M, N } = matmulSizes(a, b, attrs.layout);
    return [{ shape: [...(a as Value).shape.slice(0, -2), M, N], dtype: "f32" }];
  },
  lower: lowerMatmul,
  backward(rec, { inputs, attrs }, [dout], needs): Record<string, Value> {
    const [a, b] = [need(inputs, "a"), need(inputs, "b")];
    const grads: Record<string, Value> = {};
    if (!dout) return grads;
    const { alpha } = attrs;
    const { group } = matmulSizes(a, b, attrs.layout);
    if (needs.has("b") && group > 1) {
      throw shapeError(
        "matmul",
        "b has a gradient only where a and b have the same batch",
        `${formatTensor("a", a)}, ${formatTensor("b", b)}`,
      );
    }
    // da is dout·bᵀ, transposed where a is; db is aᵀ·dout, transposed where b is.
    if (attrs.layout === "TN") {
      if (needs.has("a")) grads["a"] = matmul(rec, b, dout, { layout: "NT", alpha });
      if (needs.has("b")) grads["b"] = matmul(rec, a, dout, { layout: "NN", alpha });
      return grads;
    }
    if (needs.has("a")) grads["a"] = matmul(rec, dout, b, { layout: attrs.layout === "NN" ? "NT" : "NN", alpha });
    if (needs.has("b")) {
      grads["b"] =
        attrs.layout === "NN"
          ? matmul(rec, a, dout, { layout: "TN", alpha })
          : matmul(rec, dout, a, { layout: "TN", alpha });
    }
    return grads;
  },
};

/**
 * `out = alpha · a · b`, batched over the leading dimensions.
 *
 * a `[…, M, K]`, b `[…, K, N]`, each transposed as `layout` says → `[…, M, N]` f32, sums in f32. a is f32 or f16; b too, or, as it is stored,
 * a packed weight. b may have fewer batches than a, by a whole factor: neighbours then share one (grouped heads). Throws `SHAPE`.
 */
export function matmul(rec: Recorder, a: Value, b: Value, attrs: MatmulAttrs): Value {
  return only(rec.record(MATMUL, { a, b }, attrs));
}

function matmulSizes(a: Value | undefined, b: Value | undefined, layout: MatmulLayout): MatmulSizes {
  invariant(a && b, "matmul: a and b must be given");
  const got = `${formatTensor("a", a)}, ${formatTensor("b", b)}`;
  if (a.shape.length < 2 || b.shape.length < 2)
    throw shapeError("matmul", "a and b must have two dimensions or more", got);
  if ((a.dtype !== "f32" && a.dtype !== "f16") || !isWeightDType(b.dtype) || (isPacked(b.dtype) && layout === "TN")) {
    throw shapeError("matmul", "a must be f32 or f16, and b f32, f16 or a packed weight", got);
  }
  const [M, K] = layout === "TN" ? [dim(a.shape, -1), dim(a.shape, -2)] : [dim(a.shape, -2), dim(a.shape, -1)];
  const [N, depth] = layout === "NT" ? [dim(b.shape, -2), dim(b.shape, -1)] : [dim(b.shape, -1), dim(b.shape, -2)];
  if (depth !== K) throw shapeError("matmul", `${layout} needs as much depth in b as in a`, got);
  const [batch, batches] = [batchOf(a.shape), batchOf(b.shape)];
  const group = batch / batches;
  if (!Number.isInteger(group)) throw shapeError("matmul", "the batch of a must be a multiple of the batch of b", got);
  return { batch, group, M, N, K };
}

function batchOf(shape: Shape): number {
  return numel(shape.slice(0, -2));
}

/** `[rows, columns]` matrices stored row by row, seen along rows or along columns. */
function operandLayout(value: Value, transposed: boolean): OperandLayout {
  const { offset, rowStride } = rowLayout(value);
  const batchStride = dim(value.shape, -2) * rowStride;
  return transposed
    ? { offset, stride: 1, depthStride: rowStride, batchStride }
    : { offset, stride: rowStride, depthStride: 1, batchStride };
}

function lowerMatmul({ inputs, outputs, attrs }: OpNode<MatmulAttrs>, context: LowerContext): void {
  const [a, b, out] = [need(inputs, "a"), need(inputs, "b"), only(outputs)];
  const { batch, group, M, N, K } = matmulSizes(a, b, attrs.layout);
  if (batch * M * N === 0) return;
  const call: MatmulCall = {
    rows: M,
    columns: N,
    depth: K,
    batch,
    group,
    x: a,
    xLayout: operandLayout(a, attrs.layout === "TN"),
    weight: b,
    weightDType: context.parts(b)[0]?.dtype ?? b.dtype,
    weightLayout: operandLayout(b, attrs.layout !== "NT"),
    out,
    outLayout: { offset: 0, rowStride: N, batchStride: M * N },
    alpha: attrs.alpha,
  };
  const parts = context.parts(b);
  if (parts.length === 1) context.dispatch(matmulDispatch(context.facts, call, attrs.kernel));
  else lowerParts(call, attrs, context);
}

/** A weight in several row parts: parts of the columns where it is stored `[N, K]`, else of the depth. */
function lowerParts(call: MatmulCall, attrs: MatmulAttrs, context: LowerContext): void {
  const value = call.weight as Value;
  const parts = context.parts(value);
  invariant(call.batch === 1, `matmul: ${value.name} has row parts and a batch`);
  let sum: Value | undefined;
  parts.forEach(({ rowStart, rows, dtype }, part) => {
    if (attrs.layout === "NT") {
      const own = {
        ...call,
        columns: rows,
        weight: { value, part },
        weightDType: dtype,
        outLayout: { ...call.outLayout, offset: rowStart },
      };
      context.dispatch(matmulDispatch(context.facts, own, attrs.kernel));
      return;
    }
    // A part's product is added to those before it: as the residual, since a kernel may not read what it writes.
    const out = part === parts.length - 1 ? call.out : context.temp(`part${part}`, [call.rows, call.columns], "f32");
    const x = { ...call.xLayout, offset: call.xLayout.offset + rowStart * call.xLayout.depthStride };
    const residual = sum && { value: sum, offset: 0, rowStride: call.columns };
    context.dispatch(
      matmulDispatch(
        context.facts,
        { ...call, depth: rows, xLayout: x, weight: { value, part }, weightDType: dtype, out, residual },
        attrs.kernel,
      ),
    );
    sum = out;
  });
}
