import backwardCode from "../../shaders/softcap_backward.wgsl";
import code from "../../shaders/softcap.wgsl";
import { HeedError } from "../core/errors.ts";
import { ceilDiv, numel } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

const KERNEL = shader("softcap.wgsl", code);
const BACKWARD_KERNEL = shader("softcap_backward.wgsl", backwardCode);

/** The attribute is the cap. */
const SOFTCAP: OpDef<number> = {
  name: "softcap",
  infer({ x }, cap) {
    if (!(Number.isFinite(cap) && cap > 0)) {
      throw new HeedError("USAGE", `softcap: the cap must be positive; got ${cap}. Leave it out for none.`);
    }
    return [{ shape: need({ x }, "x").shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const y = only(outputs);
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x: need(inputs, "x"), y },
      params: { count: numel(y.shape), cap: attrs },
      workgroups: spreadWorkgroups(ceilDiv(numel(y.shape), 64)),
    });
  },
  backward(rec, { outputs, attrs }, [dy]): Record<string, Value> {
    return dy ? { x: only(rec.record(SOFTCAP_BACKWARD, { y: outputs[0], dy }, attrs)) } : {};
  },
};

/** y and dy of one shape → dx. */
export const SOFTCAP_BACKWARD: OpDef<number> = {
  name: "softcapBackward",
  infer: ({ y }) => [{ shape: need({ y }, "y").shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const dx = only(outputs);
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL },
      bindings: { y: need(inputs, "y"), dy: need(inputs, "dy"), dx },
      params: { count: numel(dx.shape), cap: attrs },
      workgroups: spreadWorkgroups(ceilDiv(numel(dx.shape), 64)),
    });
  },
};

/** `cap · tanh(x / cap)` elementwise; x f32, no view. Throws `USAGE`. Source: Gemma Team, "Gemma 2" (2024), §2. */
export function softcap(rec: Recorder, x: Value, cap: number): Value {
  return only(rec.record(SOFTCAP, { x }, cap));
}
