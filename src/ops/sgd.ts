import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";
import momentumCode from "../../shaders/lib/momentum.wgsl";
import momentumNoneCode from "../../shaders/lib/momentum_none.wgsl";
import code from "../../shaders/sgd.wgsl";

const KERNEL = shader("sgd.wgsl", code);

/** Constants of the step. */
export interface SgdAttrs {
  /** μ: share of the velocity that is kept. Default 0. */
  readonly momentum?: number;
  /** Share of the parameter that is added to its gradient. Default 0. */
  readonly weightDecay?: number;
  /** Gradients are scaled to a global norm of at most this; needs `norm`. Default 0: none. */
  readonly maxNorm?: number;
}

/** What one step reads and writes. */
export interface SgdInputs {
  /** State, f32 of any shape. */
  readonly param: Value;
  /** f32 of the same shape. */
  readonly grad: Value;
  /** `[1]` f32: an input or state, so that a schedule costs no new plan. */
  readonly lr: Value;
  /** State of the same shape, 0 at first; needed for momentum. */
  readonly velocity?: Value;
  /** `[1]` f32: the norm of all gradients, from `globalNorm`; where it is not finite the step leaves all as it is. */
  readonly norm?: Value;
  /** `[1]` f32: what takes the loss's scale off the gradients again. Default: they have none. */
  readonly unscale?: Value;
}

export const SGD: OpDef<SgdAttrs> = {
  name: "sgd",
  writes: ["param", "velocity"],
  infer({ param, grad, lr, velocity, norm }, { momentum = 0, maxNorm = 0 }) {
    const others = [grad, ...(velocity ? [velocity] : [])];
    const fits = others.every((v) => v?.dtype === "f32" && param && sameShape(v.shape, param.shape));
    if (param?.dtype !== "f32" || !fits) {
      const got = [param, ...others].map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
      throw shapeError("sgd", "param, grad and velocity must be f32 of one shape", got);
    }
    if (lr?.dtype !== "f32" || numel(lr.shape) !== 1)
      throw shapeError("sgd", "lr must be [1] f32", lr ? formatTensor("lr", lr) : "nothing");
    if (momentum !== 0 && !velocity)
      throw shapeError("sgd", "momentum needs a velocity", "none", "Give a state of zeros.");
    if (maxNorm > 0 && !norm)
      throw shapeError("sgd", "maxNorm needs norm [1]", "none", "Give the result of globalNorm.");
    return [];
  },
  lower({ inputs, attrs }, context) {
    const [param, velocity] = [need(inputs, "param"), inputs["velocity"]];
    const part = velocity
      ? shader("lib/momentum.wgsl", momentumCode)
      : shader("lib/momentum_none.wgsl", momentumNoneCode);
    const rowSize = numel(param.shape.slice(1));
    context.parts(param).forEach(({ rowStart, rows }, p) => {
      const count = rows * rowSize;
      context.dispatch({
        kernel: { kernel: KERNEL, parts: [part] },
        bindings: {
          grad: need(inputs, "grad"),
          lr: need(inputs, "lr"),
          // Without a norm nothing is clipped, and any finite number stands in for it.
          norm: inputs["norm"] ?? need(inputs, "lr"),
          unscale: inputs["unscale"] ?? need(inputs, "lr"),
          param: { value: param, part: p },
          ...(velocity ? { velocity: { value: velocity, part: p } } : {}),
        },
        params: {
          count,
          grad_offset: rowStart * rowSize,
          momentum: attrs.momentum ?? 0,
          weight_decay: attrs.weightDecay ?? 0,
          max_norm: attrs.maxNorm ?? 0,
          scaled: inputs["unscale"] ? 1 : 0,
        },
        workgroups: spreadWorkgroups(ceilDiv(count, 64)),
      });
    });
  },
};

/**
 * One step of gradient descent in place: `p ← p − lr · (g + weightDecay · p)`; with a velocity the bracket goes through
 * `v ← momentum · v + bracket` and `p ← p − lr · v`.
 *
 * Shapes as in {@link SgdInputs}; returns nothing. Throws `SHAPE`.
 */
export function sgdStep(rec: Recorder, inputs: SgdInputs, attrs: SgdAttrs = {}): void {
  rec.record(SGD, { ...inputs }, attrs);
}
