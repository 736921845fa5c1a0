import code from "../../shaders/fill.wgsl";
import { ceilDiv, numel, type Shape } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";

interface FillAttrs {
  readonly shape: Shape;
  readonly value: number;
}

const FILL: OpDef<FillAttrs> = {
  name: "fill",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower(node, { dispatch }) {
    const n = numel(node.attrs.shape);
    dispatch({
      kernel: { kernel: shader("fill.wgsl", code) },
      bindings: { out: only(node.outputs) },
      params: { n, value: node.attrs.value },
      workgroups: spreadWorkgroups(ceilDiv(n, 64)),
    });
  },
};

/** A tensor of one value, f32; the seed of every gradient is `fill(rec, loss.shape, 1)`. */
export function fill(rec: Recorder, shape: Shape, value: number): Value {
  return only(rec.record(FILL, {}, { shape, value }));
}
