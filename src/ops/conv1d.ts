import backwardCode from "../../shaders/unfold_backward.wgsl";
import code from "../../shaders/unfold.wgsl";
import { ceilDiv, dim, formatTensor, shapeError } from "../core/shape.ts";
import { linear } from "./linear.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";

const KERNEL = shader("unfold.wgsl", code);
const BACKWARD_KERNEL = shader("unfold_backward.wgsl", backwardCode);

/** How a convolution goes over its rows. */
export interface Conv1dOptions {
  /** B. */
  readonly batch: number;
  /** Rows that one step sees. */
  readonly kernel: number;
  /** Rows from one step to the next; default 1. */
  readonly stride?: number;
  /** Rows of zeros before and after each sequence; default 0. */
  readonly padding?: number;
}

type UnfoldAttrs = Required<Conv1dOptions>;

/** Steps of a convolution over `length` rows. */
export function conv1dSteps(length: number, { kernel, stride = 1, padding = 0 }: Omit<Conv1dOptions, "batch">): number {
  return Math.max(0, Math.floor((length + 2 * padding - kernel) / stride) + 1);
}

const UNFOLD: OpDef<UnfoldAttrs> = {
  name: "unfold",
  infer({ x }, attrs) {
    const { length, channels, steps } = sizesOf(x, attrs);
    if (steps < 1) {
      const got = `${formatTensor("x", need({ x }, "x"))}, kernel ${attrs.kernel}, padding ${attrs.padding}`;
      throw shapeError(
        "conv1d",
        `a sequence must have at least ${attrs.kernel} rows with its padding`,
        `${length} in ${got}`,
      );
    }
    return [{ shape: [attrs.batch * steps, channels * attrs.kernel], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const x = need(inputs, "x");
    const { length, channels, steps } = sizesOf(x, attrs);
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x, out: only(outputs) },
      params: { ...attrs, length, channels, steps, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(attrs.batch * steps * channels * attrs.kernel, 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    if (!dout) return {};
    const { length, channels } = sizesOf(inputs["x"], attrs);
    return { x: only(rec.record(UNFOLD_BACKWARD, { dout }, { ...attrs, length, channels })) };
  },
};

const UNFOLD_BACKWARD: OpDef<UnfoldAttrs & { readonly length: number; readonly channels: number }> = {
  name: "unfold_backward",
  infer: (_, { batch, length, channels }) => [{ shape: [batch * length, channels], dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const dout = need(inputs, "dout");
    const { offset, rowStride } = layoutIn(dout, 1);
    const { batch, length, channels } = attrs;
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL },
      bindings: { dout, dx: only(outputs) },
      params: { ...attrs, steps: dim(dout.shape, 0) / batch, grad_offset: offset, grad_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(batch * length * channels, 64)),
    });
  },
};

function sizesOf(x: Value | undefined, { batch, kernel, stride, padding }: UnfoldAttrs) {
  const { rows, columns: channels } = rowsAndColumns("conv1d", "x", x);
  const isWhole = (n: number, least: number) => Number.isInteger(n) && n >= least;
  if (!isWhole(batch, 1) || rows % batch !== 0 || !isWhole(kernel, 1) || !isWhole(stride, 1) || !isWhole(padding, 0)) {
    const got = `${formatTensor("x", need({ x }, "x"))}, B ${batch}, kernel ${kernel}, stride ${stride}, padding ${padding}`;
    throw shapeError("conv1d", "x must be [B·S, Cin], kernel and stride from 1, padding from 0", got);
  }
  const length = rows / batch;
  return { length, channels, steps: conv1dSteps(length, { kernel, stride, padding }) };
}

/**
 * Convolution over the rows of each sequence: `out[t, m] = bias[m] + Σ_{c,k} weight[m, c·kernel + k] · x[t·stride + k − padding, c]`,
 * as a linear layer over the rows that each step sees.
 *
 * x `[B·S, Cin]` f32, or a view; weight `[M, Cin·kernel]`, which is PyTorch's `[M, Cin, kernel]`; bias `[M]` f32 → `[B·T, M]` f32
 * with T of {@link conv1dSteps}. Throws `SHAPE`.
 */
export function conv1d(
  rec: Recorder,
  x: Value,
  { weight, bias }: { readonly weight: Value; readonly bias?: Value | undefined },
  { stride = 1, padding = 0, ...options }: Conv1dOptions,
): Value {
  const seen = only(rec.record(UNFOLD, { x }, { ...options, stride, padding }));
  return linear(rec, seen, weight, bias ? { bias } : {});
}
