import { ceilDiv } from "../core/shape.ts";
import { activationPart, type ActivationName } from "./activation_parts.ts";
import { checkSameRows } from "./norm_rows.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import backwardCode from "../../shaders/activation_backward.wgsl";
import code from "../../shaders/activation.wgsl";

const KERNEL = shader("activation.wgsl", code);
const BACKWARD_KERNEL = shader("activation_backward.wgsl", backwardCode);

/** Which function is applied. */
export interface ActivationAttrs {
  readonly kind: ActivationName;
}

export const ACTIVATION: OpDef<ActivationAttrs> = {
  name: "activation",
  infer({ x }) {
    const { rows, columns } = rowsAndColumns("activation", "x", x);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const x = need(inputs, "x");
    const { rows, columns } = rowsAndColumns("activation", "x", x);
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL, parts: [activationPart(attrs.kind)] },
      bindings: { x, out: only(outputs) },
      params: { rows, columns, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    return dout ? { x: only(rec.record(ACTIVATION_BACKWARD, { x: inputs["x"], dout }, attrs)) } : {};
  },
};

/** x, dout `[N, C]` → `dout · act'(x)` `[N, C]`. */
export const ACTIVATION_BACKWARD: OpDef<ActivationAttrs> = {
  name: "activation_backward",
  infer({ x, dout }) {
    checkSameRows("activation_backward", x, dout);
    return [{ shape: need({ x }, "x").shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const [x, dout] = [need(inputs, "x"), need(inputs, "dout")];
    const { rows, columns } = rowsAndColumns("activation_backward", "x", x);
    const [layout, grad] = [layoutIn(x, 1), layoutIn(dout, 1)];
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL, parts: [activationPart(attrs.kind)] },
      bindings: { x, dout, dx: only(outputs) },
      params: {
        rows,
        columns,
        offset: layout.offset,
        row_stride: layout.rowStride,
        grad_offset: grad.offset,
        grad_stride: grad.rowStride,
      },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
};

/** `out = act(x)` elementwise; x `[N, C]` f32, or a view → `[N, C]` f32. `gelu` is the exact form. Throws `SHAPE`. */
export function activation(rec: Recorder, x: Value, kind: ActivationName): Value {
  return only(rec.record(ACTIVATION, { x }, { kind }));
}
