import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { elemPart, layoutIn, need } from "./rows.ts";
import code from "../../shaders/add.wgsl";

const KERNEL = shader("add.wgsl", code);

/** The factors of both inputs. */
export interface AddAttrs {
  readonly aFactor: number;
  readonly bFactor: number;
}

export const ADD: OpDef<AddAttrs> = {
  name: "add",
  infer({ a, b }) {
    if (a?.dtype !== "f32" || (b && (b.dtype !== "f32" || !sameShape(a.shape, b.shape)))) {
      const got = [a, b].map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
      throw shapeError("add", "a and b must be f32 of one shape", got);
    }
    return [{ shape: a.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const a = need(inputs, "a");
    const b = inputs["b"] ?? a;
    const columns = a.shape.at(-1) ?? 1;
    const rows = columns === 0 ? 0 : numel(a.shape) / columns;
    const elem = elemPart(columns, ...Object.values(layoutIn(a, 1)), ...Object.values(layoutIn(b, 1)));
    const [left, right] = [layoutIn(a, elem.width), layoutIn(b, elem.width)];
    dispatch({
      kernel: { kernel: KERNEL, parts: [elem.part] },
      bindings: { a, b, out: only(outputs) },
      params: {
        rows,
        columns: columns / elem.width,
        a_offset: left.offset,
        a_stride: left.rowStride,
        b_offset: right.offset,
        b_stride: right.rowStride,
        a_factor: attrs.aFactor,
        b_factor: attrs.bFactor,
      },
      workgroups: spreadWorkgroups(ceilDiv((rows * columns) / elem.width, 64)),
    });
  },
  backward(rec, { attrs }, [dout], needs) {
    if (!dout) return {};
    const gradient = (factor: number): Value => (factor === 1 ? dout : scale(rec, dout, factor));
    return {
      ...(needs.has("a") ? { a: gradient(attrs.aFactor) } : {}),
      ...(needs.has("b") ? { b: gradient(attrs.bFactor) } : {}),
    };
  },
};

/** `out = a + b`: the residual connection. a, b f32 of one shape, or views `[N, C]` → the same shape. Throws `SHAPE`. */
export function add(rec: Recorder, a: Value, b: Value): Value {
  return only(rec.record(ADD, { a, b }, { aFactor: 1, bFactor: 1 }));
}

/** `out = factor · x`; x f32 of any shape, or a view `[N, C]` → the same shape. Throws `SHAPE`. */
export function scale(rec: Recorder, x: Value, factor: number): Value {
  return only(rec.record(ADD, { a: x }, { aFactor: factor, bFactor: 0 }));
}
