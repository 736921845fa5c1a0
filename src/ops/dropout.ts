import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import code from "../../shaders/dropout.wgsl";
import philoxCode from "../../shaders/lib/philox.wgsl";

const KERNEL = shader("dropout.wgsl", code);
const PHILOX_PART = shader("lib/philox.wgsl", philoxCode);

/** How much is dropped, and whose mask it is. */
export interface DropoutAttrs {
  /** Probability of dropping, 0 ≤ rate < 1. */
  readonly rate: number;
  /** Set in the gradient: the recorded index of the op whose mask is drawn again. */
  readonly maskOf?: number;
}

export const DROPOUT: OpDef<DropoutAttrs> = {
  name: "dropout",
  infer({ x, rng }, { rate }) {
    rowsAndColumns("dropout", "x", matrixOf(x));
    if (rng?.dtype !== "u32" || rng.shape.length !== 1 || rng.shape[0] !== 3) {
      throw shapeError(
        "dropout",
        "rng must be [3] u32: seed low, seed high, step",
        rng ? formatTensor("rng", rng) : "nothing",
      );
    }
    if (!(rate >= 0 && rate < 1)) throw shapeError("dropout", "rate must be in [0, 1)", `${rate}`);
    return [{ shape: need({ x }, "x").shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs, index }, { dispatch }) {
    const x = need(inputs, "x");
    const { rows, columns } = rowsAndColumns("dropout", "x", matrixOf(x));
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL, parts: [PHILOX_PART] },
      bindings: { x, rng: need(inputs, "rng"), out: only(outputs) },
      params: {
        rows,
        columns,
        offset,
        row_stride: rowStride,
        op: attrs.maskOf ?? index,
        limit: Math.floor(attrs.rate * 2 ** 32),
        factor: 1 / (1 - attrs.rate),
      },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 4 * 64)),
    });
  },
  backward(rec, { inputs, attrs, index }, [dout]): Record<string, Value> {
    if (!dout) return {};
    const maskOf = attrs.maskOf ?? index;
    return { x: only(rec.record(DROPOUT, { x: dout, rng: inputs["rng"] }, { rate: attrs.rate, maskOf })) };
  },
};

/** A tensor of more than two axes as rows of its last one. */
function matrixOf(x: Value | undefined): Value | undefined {
  const columns = x?.shape.at(-1) ?? 0;
  return x && x.shape.length > 2 ? { ...x, shape: [columns > 0 ? numel(x.shape) / columns : 0, columns] } : x;
}

/**
 * `out = kept ? x / (1 − rate) : 0`. The mask follows from seed, step, the op's place in the record and the element alone: the
 * gradient, and a forward pass that is computed again, draw the same one.
 *
 * x `[N, C]` f32, or a view, or of more axes; rng `[3]` u32 (seed low, seed high, step) → f32 of the shape of x. Throws `SHAPE`.
 * Source: Srivastava et al., "Dropout" (2014), §10.
 */
export function dropout(rec: Recorder, x: Value, options: { readonly rate: number; readonly rng: Value }): Value {
  return only(rec.record(DROPOUT, { x, rng: options.rng }, { rate: options.rate }));
}
