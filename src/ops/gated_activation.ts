import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import type { ActivationAttrs } from "./activation.ts";
import { activationPart, type ActivationName } from "./activation_parts.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import backwardCode from "../../shaders/gated_activation_backward.wgsl";
import code from "../../shaders/gated_activation.wgsl";

const KERNEL = shader("gated_activation.wgsl", code);
const BACKWARD_KERNEL = shader("gated_activation_backward.wgsl", backwardCode);

export const GATED_ACTIVATION: OpDef<ActivationAttrs> = {
  name: "gated_activation",
  infer({ x }) {
    const { rows, half } = halves("gated_activation", x);
    return [{ shape: [rows, half], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const x = need(inputs, "x");
    const { rows, half } = halves("gated_activation", x);
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL, parts: [activationPart(attrs.kind)] },
      bindings: { x, out: only(outputs) },
      params: { rows, columns: half, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(rows * half, 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    return dout ? { x: only(rec.record(GATED_ACTIVATION_BACKWARD, { x: inputs["x"], dout }, attrs)) } : {};
  },
};

/** x `[N, 2F]`, dout `[N, F]` → dx `[N, 2F]`. */
export const GATED_ACTIVATION_BACKWARD: OpDef<ActivationAttrs> = {
  name: "gated_activation_backward",
  infer({ x, dout }) {
    const { rows, half } = halves("gated_activation_backward", x);
    const grad = rowsAndColumns("gated_activation_backward", "dout", dout);
    if (grad.rows !== rows || grad.columns !== half) {
      throw shapeError(
        "gated_activation_backward",
        "dout must be [N, F] for x [N, 2F]",
        `${formatTensor("x", need({ x }, "x"))}, ${formatTensor("dout", need({ dout }, "dout"))}`,
      );
    }
    return [{ shape: [rows, 2 * half], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const [x, dout] = [need(inputs, "x"), need(inputs, "dout")];
    const { rows, half } = halves("gated_activation_backward", x);
    const [layout, grad] = [layoutIn(x, 1), layoutIn(dout, 1)];
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL, parts: [activationPart(attrs.kind)] },
      bindings: { x, dout, dx: only(outputs) },
      params: {
        rows,
        columns: half,
        offset: layout.offset,
        row_stride: layout.rowStride,
        grad_offset: grad.offset,
        grad_stride: grad.rowStride,
      },
      workgroups: spreadWorkgroups(ceilDiv(rows * half, 64)),
    });
  },
};

function halves(op: string, x: Value | undefined): { rows: number; half: number } {
  const { rows, columns } = rowsAndColumns(op, "x", x);
  if (columns % 2 !== 0) throw shapeError(op, "x must be [N, 2F], gate then up", formatTensor("x", need({ x }, "x")));
  return { rows, half: columns / 2 };
}

/**
 * `out[n, f] = act(x[n, f]) · x[n, F + f]`: SwiGLU with `silu`, GEGLU with `gelu` or `gelu_tanh`.
 *
 * x `[N, 2F]` f32 (gate, then up), or a view → `[N, F]` f32. Throws `SHAPE`.
 * Source: Shazeer, "GLU Variants Improve Transformer" (2020), eq. 5.
 */
export function gatedActivation(rec: Recorder, x: Value, kind: ActivationName): Value {
  return only(rec.record(GATED_ACTIVATION, { x }, { kind }));
}
