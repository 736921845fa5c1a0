import code from "../../shaders/transpose.wgsl";
import codeF16 from "../../shaders/transpose_f16.wgsl";
import { ceilDiv, dim, formatTensor, shapeError } from "../core/shape.ts";
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
  lower({ inputs }, { dispatch, parts }) {
    const { x, out } = inputs as { x: Value; out: Value };
    const half = x.dtype === "f16";
    const [rows, cols] = [dim(x.shape, 0), dim(x.shape, 1)];
    // A part of out takes its elements from every part of x.
    parts(out).forEach((target, outPart) => {
      parts(x).forEach((source, xPart) => {
        const outElements = target.rows * rows;
        dispatch({
          kernel: { kernel: half ? shader("transpose_f16.wgsl", codeF16) : shader("transpose.wgsl", code) },
          bindings: { x: { value: x, part: xPart }, out: { value: out, part: outPart } },
          params: {
            rows,
            cols,
            x_first: source.rowStart,
            x_rows: source.rows,
            out_first: target.rowStart,
            out_elements: outElements,
          },
          workgroups: spreadWorkgroups(ceilDiv(outElements, half ? 128 : 64)),
        });
      });
    });
  },
};

/** Writes `out[c, r] = x[r, c]` into a state; x `[R, C]`, out `[C, R]`, of any one dtype and any row parts. Used once per weight, at load. */
export function transposeInto(rec: Recorder, x: Value, out: Value): void {
  rec.record(TRANSPOSE_INTO, { x, out }, null);
}
