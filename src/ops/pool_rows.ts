import shareCode from "../../shaders/lib/row_share.wgsl";
import backwardCode from "../../shaders/pool_rows_backward.wgsl";
import code from "../../shaders/pool_rows.wgsl";
import { ceilDiv, formatTensor, sameShape, shapeError } from "../core/shape.ts";
import { type Inputs, only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";

const KERNEL = shader("pool_rows.wgsl", code);
const BACKWARD_KERNEL = shader("pool_rows_backward.wgsl", backwardCode);
const SHARE = shader("lib/row_share.wgsl", shareCode);

/** How the rows of a sequence become one; the order is that of shaders/lib/row_share.wgsl. */
export const POOLINGS = ["mean", "mean_sqrt_len", "weighted_mean", "last", "max"] as const;

export type Pooling = (typeof POOLINGS)[number];

interface PoolAttrs {
  readonly batch: number;
  readonly pooling: Pooling;
}

const POOL_ROWS: OpDef<PoolAttrs> = {
  name: "pool_rows",
  infer(inputs, attrs) {
    return [{ shape: [attrs.batch, sizesOf(inputs, attrs).columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const sizes = sizesOf(inputs, attrs);
    dispatch({
      kernel: { kernel: KERNEL, parts: [SHARE] },
      bindings: { x: need(inputs, "x"), lengths: need(inputs, "lengths"), out: only(outputs) },
      params: sizes,
      workgroups: spreadWorkgroups(ceilDiv(sizes.batch * sizes.columns, 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    return dout ? { x: only(rec.record(POOL_ROWS_BACKWARD, { ...inputs, dout }, attrs)) } : {};
  },
};

const POOL_ROWS_BACKWARD: OpDef<PoolAttrs> = {
  name: "pool_rows_backward",
  infer: ({ x }) => [{ shape: need({ x }, "x").shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const sizes = sizesOf(inputs, attrs);
    const dout = need(inputs, "dout");
    const { offset, rowStride } = layoutIn(dout, 1);
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL, parts: [SHARE] },
      bindings: { x: need(inputs, "x"), lengths: need(inputs, "lengths"), dout, dx: only(outputs) },
      params: { ...sizes, grad_offset: offset, grad_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(sizes.batch * sizes.columns, 64)),
    });
  },
};

function sizesOf({ x, lengths }: Inputs, { batch, pooling }: PoolAttrs) {
  const { rows, columns } = rowsAndColumns("pool_rows", "x", x);
  if (!(Number.isInteger(batch) && batch >= 1 && rows % batch === 0)) {
    const got = `${formatTensor("x", need({ x }, "x"))}, B ${batch}`;
    throw shapeError("pool_rows", "x must be [B·T, C]", got);
  }
  if (lengths?.dtype !== "u32" || !sameShape(lengths.shape, [batch])) {
    const got = lengths ? formatTensor("lengths", lengths) : "nothing";
    throw shapeError("pool_rows", `lengths must be [B] = [${batch}] u32`, got);
  }
  const { offset, rowStride } = layoutIn(need({ x }, "x"), 1);
  const mode = POOLINGS.indexOf(pooling);
  return { batch, length: rows / batch, columns, mode, offset, row_stride: rowStride };
}

/**
 * One row for each sequence: the mean of its first rows, their sum over √n, their mean with weights 1, 2, …, n, the last
 * of them, or the largest of each column.
 *
 * x `[B·T, C]` f32, or a view; lengths `[B]` u32, how many rows of each sequence count → `[B, C]` f32. Throws `SHAPE`.
 * Source: Reimers and Gurevych, "Sentence-BERT" (2019), §3.
 */
export function poolRows(
  rec: Recorder,
  { x, lengths }: { readonly x: Value; readonly lengths: Value },
  pooling: Pooling,
): Value {
  return only(rec.record(POOL_ROWS, { x, lengths }, { pooling, batch: lengths.shape[0] ?? 0 }));
}
