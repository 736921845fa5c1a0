import code from "../../shaders/accumulate.wgsl";
import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

/** What one addition reads and writes. */
export interface AccumulateInputs {
  /** State, f32 of any shape, in several row parts where it is large. */
  readonly sum: Value;
  /** f32 of the same shape. */
  readonly addend: Value;
  /** `[1]` u32: other than 0 begins a new sum. */
  readonly fresh: Value;
}

export const ACCUMULATE: OpDef<null> = {
  name: "accumulate",
  writes: ["sum"],
  infer({ sum, addend, fresh }) {
    if (sum?.dtype !== "f32" || addend?.dtype !== "f32" || !sameShape(sum.shape, addend.shape)) {
      const got = [sum, addend].map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
      throw shapeError("accumulate", "sum and addend must be f32 of one shape", got);
    }
    if (fresh?.dtype !== "u32" || numel(fresh.shape) !== 1)
      throw shapeError("accumulate", "fresh must be [1] u32", fresh ? formatTensor("fresh", fresh) : "nothing");
    return [];
  },
  lower({ inputs }, context) {
    const sum = need(inputs, "sum");
    const rowSize = numel(sum.shape.slice(1));
    context.parts(sum).forEach(({ rowStart, rows }, part) => {
      const count = rows * rowSize;
      context.dispatch({
        kernel: { kernel: shader("accumulate.wgsl", code) },
        bindings: { addend: need(inputs, "addend"), fresh: need(inputs, "fresh"), sum: { value: sum, part } },
        params: { count, addend_offset: rowStart * rowSize },
        workgroups: spreadWorkgroups(ceilDiv(count, 64)),
      });
    });
  },
};

/**
 * `sum ← addend` where `fresh` is not 0, else `sum ← sum + addend`, in place; returns nothing. Shapes as in
 * {@link AccumulateInputs}. Throws `SHAPE`.
 */
export function accumulate(rec: Recorder, inputs: AccumulateInputs): void {
  rec.record(ACCUMULATE, { ...inputs }, null);
}
