import rootCode from "../../shaders/root_of_sum.wgsl";
import squaresCode from "../../shaders/squares_sum.wgsl";
import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { reducePart } from "./reduce.ts";

/** Elements whose squares one workgroup sums. */
const STRETCH = 4096;
const WORKGROUP_SIZE = 64;

export const GLOBAL_NORM: OpDef<null> = {
  name: "global_norm",
  infer(inputs) {
    for (const x of Object.values(inputs)) {
      if (x?.dtype !== "f32") {
        throw shapeError("global_norm", "every tensor must be f32", x ? formatTensor(x.name, x) : "nothing");
      }
    }
    return [{ shape: [1], dtype: "f32" }];
  },
  lower({ inputs, outputs }, { facts, dispatch, temp }) {
    const { unscale, ...given } = inputs;
    const tensors = Object.values(given) as Value[];
    const groups = tensors.map((x) => ceilDiv(numel(x.shape), STRETCH));
    const partial = temp(
      "squares",
      [
        Math.max(
          1,
          groups.reduce((a, b) => a + b, 0),
        ),
      ],
      "f32",
    );
    const { parts, enable } = reducePart(facts);
    const variant = { parts, enable, constants: { WORKGROUP_SIZE } };
    let first = 0;
    tensors.forEach((x, i) => {
      const count = groups[i] as number;
      dispatch({
        kernel: { kernel: shader("squares_sum.wgsl", squaresCode), ...variant },
        bindings: { x, partial },
        params: { count: numel(x.shape), stretch: STRETCH, first },
        workgroups: [count],
      });
      first += count;
    });
    dispatch({
      kernel: { kernel: shader("root_of_sum.wgsl", rootCode), ...variant },
      bindings: { partial, unscale: unscale ?? partial, out: only(outputs) },
      params: { count: first, scaled: unscale ? 1 : 0 },
      workgroups: [1],
    });
  },
};

/**
 * `√Σ x²` over every element of all tensors together, `[1]`; f32, summed in a fixed order. With `unscale` `[1]` f32 the root is multiplied by it.
 * Throws `SHAPE`.
 */
export function globalNorm(rec: Recorder, tensors: readonly Value[], unscale?: Value): Value {
  const inputs = Object.fromEntries(tensors.map((t, i) => [`x${i}`, t]));
  return only(rec.record(GLOBAL_NORM, { ...inputs, ...(unscale ? { unscale } : {}) }, null));
}
