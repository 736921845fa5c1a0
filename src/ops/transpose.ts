import code from "../../shaders/transpose.wgsl";
import codeF16 from "../../shaders/transpose_f16.wgsl";
import { ceilDiv, dim, formatTensor, numel, shapeError } from "../core/shape.ts";
import { type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";

const TRANSPOSE_INTO: OpDef<null> = {
  name: "transpose_into",
  writes: ["out"],
  infer(inputs) {
    const { x, out } = inputs as { x: Value; out: Value };
    const fits =
      x.shape.length === 2 &&
      out.shape.length === 2 &&
      dim(x.shape, 0) === dim(out.shape, 1) &&
      dim(x.shape, 1) === dim(out.shape, 0);
    if (!fits || x.dtype !== out.dtype) {
      throw shapeError(
        "transpose",
        "x must be [R, C] and out [C, R] of one dtype",
        `${formatTensor("x", x)}, ${formatTensor("out", out)}`,
      );
    }
    return [];
  },
  lower({ inputs }, { dispatch }) {
    const { x, out } = inputs as { x: Value; out: Value };
    const half = x.dtype === "f16";
    dispatch({
      kernel: { kernel: half ? shader("transpose_f16.wgsl", codeF16) : shader("transpose.wgsl", code) },
      bindings: { x, out },
      params: { rows: dim(x.shape, 0), cols: dim(x.shape, 1) },
      workgroups: spreadWorkgroups(ceilDiv(numel(x.shape), half ? 128 : 64)),
    });
  },
};

/** Writes `out[c, r] = x[r, c]` into a state; x `[R, C]`, out `[C, R]`, of any one dtype. Used once per weight, at load. */
export function transposeInto(rec: Recorder, x: Value, out: Value): void {
  rec.record(TRANSPOSE_INTO, { x, out }, null);
}
