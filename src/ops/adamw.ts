import code from "../../shaders/adamw.wgsl";
import countCode from "../../shaders/count_step.wgsl";
import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

/** Constants of the optimiser. */
export interface AdamwAttrs {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Decoupled from the gradient, as in AdamW. */
  readonly weightDecay: number;
  /** Added to the gradient, as in Adam with weight decay: `l2 · param`. Default 0. */
  readonly l2?: number;
  /** Gradients are scaled to a global norm of at most this; 0 clips nothing. */
  readonly maxNorm: number;
}

/** What one step reads and writes. */
export interface AdamwInputs {
  /** State, f32 of any shape, in several row parts where it is large. */
  readonly param: Value;
  /** f32 of the same shape. */
  readonly grad: Value;
  /** States of the same shape and parts, 0 at first: the moments. */
  readonly m: Value;
  readonly v: Value;
  /** `[1]` f32: the norm of all gradients, from `globalNorm`. */
  readonly norm: Value;
  /** `[1]` f32: what takes the loss's scale off the gradients again. Default: they have none. */
  readonly unscale?: Value;
  /** `[1]` f32 input, so that a schedule costs no new plan. */
  readonly lr: Value;
  /** `[1]` u32 state: steps done; {@link countStep} adds one after all parameters. */
  readonly step: Value;
}

export const ADAMW: OpDef<AdamwAttrs> = {
  name: "adamw",
  writes: ["param", "m", "v"],
  infer({ param, grad, m, v }) {
    const all = [param, grad, m, v];
    if (all.some((t) => t?.dtype !== "f32" || !param || !sameShape(t.shape, param.shape))) {
      const got = all.map((t) => (t ? formatTensor(t.name, t) : "nothing")).join(", ");
      throw shapeError("adamw", "param, grad, m and v must be f32 of one shape", got);
    }
    return [];
  },
  lower({ inputs, attrs }, context) {
    const param = need(inputs, "param");
    const rowSize = numel(param.shape.slice(1));
    context.parts(param).forEach(({ rowStart, rows }, part) => {
      const count = rows * rowSize;
      context.dispatch({
        kernel: { kernel: shader("adamw.wgsl", code) },
        bindings: {
          grad: need(inputs, "grad"),
          norm: need(inputs, "norm"),
          unscale: inputs["unscale"] ?? need(inputs, "norm"),
          schedule: need(inputs, "lr"),
          step: need(inputs, "step"),
          param: { value: param, part },
          m: { value: need(inputs, "m"), part },
          v: { value: need(inputs, "v"), part },
        },
        params: {
          count,
          grad_offset: rowStart * rowSize,
          beta1: attrs.beta1,
          beta2: attrs.beta2,
          eps: attrs.eps,
          decay: attrs.weightDecay,
          l2: attrs.l2 ?? 0,
          max_norm: attrs.maxNorm,
          scaled: inputs["unscale"] ? 1 : 0,
        },
        workgroups: spreadWorkgroups(ceilDiv(count, 64)),
      });
    });
  },
};

const COUNT_STEP: OpDef<null> = {
  name: "count_step",
  writes: ["step"],
  infer: () => [],
  lower({ inputs }, { dispatch }) {
    dispatch({
      kernel: { kernel: shader("count_step.wgsl", countCode) },
      bindings: { step: need(inputs, "step") },
      workgroups: [1],
    });
  },
};

/**
 * One AdamW step in place, with the clipping by global norm in it; returns nothing. A norm that is not finite leaves all as it is. Shapes as in {@link AdamwInputs}.
 * Throws `SHAPE`. Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), Alg. 2.
 */
export function adamwStep(rec: Recorder, inputs: AdamwInputs, attrs: AdamwAttrs): void {
  rec.record(ADAMW, { ...inputs }, attrs);
}

/** Adds 1 to the state `step [1]` u32. */
export function countStep(rec: Recorder, step: Value): void {
  rec.record(COUNT_STEP, { step }, null);
}
