import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import {
  type LowerContext,
  type OpDef,
  type OpNode,
  type Recorder,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { reducePart } from "./reduce.ts";
import { elemPart, layoutIn, need, rowReduction, rowsAndColumns } from "./rows.ts";
import backwardCode from "../../shaders/cross_entropy_backward.wgsl";
import meanCode from "../../shaders/cross_entropy_mean.wgsl";
import code from "../../shaders/cross_entropy.wgsl";

const KERNEL = shader("cross_entropy.wgsl", code);
const MEAN_KERNEL = shader("cross_entropy_mean.wgsl", meanCode);
const BACKWARD_KERNEL = shader("cross_entropy_backward.wgsl", backwardCode);

type NoAttrs = Record<string, never>;

export const CROSS_ENTROPY: OpDef<NoAttrs> = {
  name: "cross_entropy",
  infer({ logits, targets }) {
    const { rows } = checkTargets("cross_entropy", logits, targets);
    return [
      { shape: [1], dtype: "f32" },
      { shape: [rows], dtype: "f32" },
      { shape: [1], dtype: "f32" },
    ];
  },
  lower: lowerForward,
  backward(rec, { inputs, outputs }, [dloss], needs): Record<string, Value> {
    if (!dloss || !needs.has("logits")) return {};
    const [, lse, count] = outputs;
    const [dlogits] = rec.record(CROSS_ENTROPY_BACKWARD, { ...inputs, lse, count, dloss }, {});
    return { logits: dlogits as Value };
  },
};

/** logits `[N, V]`, targets `[N]`, lse `[N]`, count and dloss `[1]` → dlogits `[N, V]`. */
export const CROSS_ENTROPY_BACKWARD: OpDef<NoAttrs> = {
  name: "cross_entropy_backward",
  infer({ logits, targets }) {
    const { rows, columns } = checkTargets("cross_entropy_backward", logits, targets);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs }, { dispatch }) {
    const logits = need(inputs, "logits");
    const { rows, columns } = rowsAndColumns("cross_entropy_backward", "logits", logits);
    const { offset, rowStride } = layoutIn(logits, 1);
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL },
      bindings: {
        logits,
        targets: need(inputs, "targets"),
        lse: need(inputs, "lse"),
        count: need(inputs, "count"),
        dloss: need(inputs, "dloss"),
        dlogits: outputs[0] as Value,
      },
      params: { rows, vocabulary: columns, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
};

function lowerForward({ inputs, outputs }: OpNode<NoAttrs>, context: LowerContext): void {
  const [logits, targets] = [need(inputs, "logits"), need(inputs, "targets")];
  const [loss, lse, count] = outputs as [Value, Value, Value];
  const { rows, columns } = rowsAndColumns("cross_entropy", "logits", logits);
  const losses = context.temp("losses", [rows], "f32");
  const elem = elemPart(columns, ...Object.values(layoutIn(logits, 1)));
  const { offset, rowStride } = layoutIn(logits, elem.width);
  const { variant, workgroups } = rowReduction(context.facts, rows, columns / elem.width);
  context.dispatch({
    kernel: { ...variant, kernel: KERNEL, parts: [elem.part, ...(variant.parts ?? [])] },
    bindings: { logits, targets, losses, lse },
    params: { rows, vocabulary: columns, columns: columns / elem.width, offset, row_stride: rowStride },
    workgroups,
  });
  context.dispatch({
    kernel: { kernel: MEAN_KERNEL, ...meanVariant(context.facts) },
    bindings: { losses, targets, loss, count },
    params: { rows, vocabulary: columns },
    workgroups: [1],
  });
}

function meanVariant(facts: GpuFacts): Pick<KernelVariant, "parts" | "enable" | "constants"> {
  const { parts, enable } = reducePart(facts);
  return { parts, enable, constants: { WORKGROUP_SIZE: facts.software ? 8 : 256 } };
}

function checkTargets(
  op: string,
  logits: Value | undefined,
  targets: Value | undefined,
): { rows: number; columns: number } {
  const sizes = rowsAndColumns(op, "logits", logits);
  const integers = targets?.dtype === "i32" || targets?.dtype === "u32";
  if (!targets || !integers || targets.shape.length !== 1 || targets.shape[0] !== sizes.rows) {
    const got = targets ? formatTensor("targets", targets) : "nothing";
    throw shapeError(op, `targets must be [N] i32 or u32 with N = ${sizes.rows}`, got);
  }
  return sizes;
}

/**
 * `loss = mean over the counted rows of logsumexp(logits[n]) − logits[n, targets[n]]`; rows whose target is no token, such as
 * −100, count for nothing, and the loss is 0 if no row counts.
 *
 * logits `[N, V]` f32, or a view; targets `[N]` i32 or u32 → `[1]` f32. Throws `SHAPE`.
 */
export function crossEntropy(rec: Recorder, logits: Value, targets: Value): Value {
  const [loss] = rec.record(CROSS_ENTROPY, { logits, targets }, {});
  return loss as Value;
}
