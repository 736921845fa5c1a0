import { HeedError } from "../core/errors.ts";
import { ceilDiv, dim, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import {
  type Inputs,
  type LowerContext,
  type OpDef,
  type OpNode,
  type Recorder,
  rowLayout,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { reducePart } from "./reduce.ts";
import { elemPart, layoutIn, need, rowReduction } from "./rows.ts";
import backwardCode from "../../shaders/cross_entropy_backward.wgsl";
import meanCode from "../../shaders/cross_entropy_mean.wgsl";
import code from "../../shaders/cross_entropy.wgsl";

const KERNEL = shader("cross_entropy.wgsl", code);
const MEAN_KERNEL = shader("cross_entropy_mean.wgsl", meanCode);
const BACKWARD_KERNEL = shader("cross_entropy_backward.wgsl", backwardCode);

/** What the loss is of. */
export interface CrossEntropyAttrs {
  /** `mean` divides by the counted rows (by the sum of their targets' weights, if there are any). Default `mean`. */
  readonly reduction?: "mean" | "sum";
  /** Rows of this target count for nothing, like those whose target is no class. Default −100. */
  readonly ignoreIndex?: number;
  /** ε: the target distribution is `(1 − ε) · onehot + ε / V`. Default 0. */
  readonly labelSmoothing?: number;
  /** The logits are logarithms of probabilities; nothing is normalised. Has no gradient. Default false. */
  readonly fromLogProbs?: boolean;
}

export const CROSS_ENTROPY: OpDef<CrossEntropyAttrs> = {
  name: "cross_entropy",
  infer({ logits, targets, weights }, attrs) {
    const { rows, vocabulary } = checkTargets("cross_entropy", logits, targets);
    checkAttrs(attrs);
    if (weights && (weights.dtype !== "f32" || !sameShape(weights.shape, [vocabulary]))) {
      throw shapeError(
        "cross_entropy",
        `weights must be [V] f32 with V = ${vocabulary}`,
        formatTensor("weights", weights),
      );
    }
    const row = { shape: [rows], dtype: "f32" } as const;
    const scalar = { shape: [1], dtype: "f32" } as const;
    return [scalar, row, scalar, row, row];
  },
  lower: lowerForward,
  backward(rec, { inputs, outputs, attrs }, [dloss, ...others], needs): Record<string, Value> {
    if (
      others.some((grad) => grad !== undefined) ||
      (inputs["weights"] && attrs.labelSmoothing) ||
      attrs.fromLogProbs
    ) {
      throw new HeedError(
        "UNSUPPORTED",
        "cross_entropy: a gradient is there for the loss of logits, and with class weights or label smoothing, not both.",
      );
    }
    if (!dloss || !needs.has("logits")) return {};
    const [, lse, count, , counts] = outputs;
    const { logits, targets } = inputs;
    const [dlogits] = rec.record(CROSS_ENTROPY_BACKWARD, { logits, targets, lse, counts, count, dloss }, attrs);
    return { logits: dlogits as Value };
  },
};

/** logits `[N, V, …]`, targets `[N, …]`, lse and counts `[rows]`, count and dloss `[1]` → dlogits, as logits. */
export const CROSS_ENTROPY_BACKWARD: OpDef<CrossEntropyAttrs> = {
  name: "cross_entropy_backward",
  infer({ logits, targets }) {
    checkTargets("cross_entropy_backward", logits, targets);
    return [{ shape: need({ logits }, "logits").shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const logits = need(inputs, "logits");
    const { rows, vocabulary, inner } = sizesOf("cross_entropy_backward", logits);
    dispatch({
      kernel: { kernel: BACKWARD_KERNEL },
      bindings: { ...boundInputs(inputs), dlogits: outputs[0] as Value },
      params: { rows, vocabulary, ...strides(logits, 1), inner, smoothing: attrs.labelSmoothing ?? 0 },
      workgroups: spreadWorkgroups(ceilDiv(rows * vocabulary, 64)),
    });
  },
};

function boundInputs(inputs: Inputs): Record<string, Value> {
  const names = ["logits", "targets", "lse", "counts", "count", "dloss"];
  return Object.fromEntries(names.map((name) => [name, need(inputs, name)]));
}

function lowerForward({ inputs, outputs, attrs }: OpNode<CrossEntropyAttrs>, context: LowerContext): void {
  const [logits, targets, weights] = [need(inputs, "logits"), need(inputs, "targets"), inputs["weights"]];
  const [loss, lse, count, losses, counts] = outputs as [Value, Value, Value, Value, Value];
  const { rows, vocabulary, inner } = sizesOf("cross_entropy", logits);
  const plain = inner === 1 && !weights;
  const elem = plain ? elemPart(vocabulary, ...Object.values(layoutIn(logits, 1))) : elemPart(1);
  const { variant, workgroups } = rowReduction(context.facts, rows, vocabulary / elem.width);
  context.dispatch({
    kernel: { ...variant, kernel: KERNEL, parts: [elem.part, ...(variant.parts ?? [])] },
    bindings: { logits, targets, weights: weights ?? logits, losses, counts, lse },
    params: {
      rows,
      vocabulary,
      columns: vocabulary / elem.width,
      ...strides(logits, elem.width),
      inner,
      ignored: attrs.ignoreIndex ?? -100,
      has_weights: weights ? 1 : 0,
      log_probs: attrs.fromLogProbs ? 1 : 0,
      smoothing: attrs.labelSmoothing ?? 0,
    },
    workgroups,
  });
  context.dispatch({
    kernel: { kernel: MEAN_KERNEL, ...meanVariant(context.facts) },
    bindings: { losses, counts, loss, count },
    params: { rows, is_sum: attrs.reduction === "sum" ? 1 : 0 },
    workgroups: [1],
  });
}

function meanVariant(facts: GpuFacts): Pick<KernelVariant, "parts" | "enable" | "constants"> {
  const { parts, enable } = reducePart(facts);
  return { parts, enable, constants: { WORKGROUP_SIZE: facts.software ? 8 : 256 } };
}

interface Sizes {
  readonly rows: number;
  readonly vocabulary: number;
  /** Elements between the entries of a row. */
  readonly inner: number;
}

function sizesOf(op: string, logits: Value | undefined): Sizes {
  if (logits?.dtype !== "f32" || logits.shape.length < 2) {
    const got = logits ? formatTensor("logits", logits) : "nothing";
    throw shapeError(op, "logits must be [N, V] or [N, V, …] f32", got);
  }
  const inner = numel(logits.shape.slice(2));
  return { rows: dim(logits.shape, 0) * inner, vocabulary: dim(logits.shape, 1), inner };
}

/** Where rows begin, in elements of `width` f32. */
function strides(logits: Value, width: number): { offset: number; row_stride: number } {
  const { offset, rowStride } = rowLayout(logits);
  const { vocabulary, inner } = sizesOf("cross_entropy", logits);
  return { offset: offset / width, row_stride: (inner === 1 && logits.view ? rowStride : vocabulary * inner) / width };
}

function checkTargets(op: string, logits: Value | undefined, targets: Value | undefined): Sizes {
  const sizes = sizesOf(op, logits);
  const integers = targets?.dtype === "i32" || targets?.dtype === "u32";
  if (
    !targets ||
    !integers ||
    numel(targets.shape) !== sizes.rows ||
    (sizes.inner === 1 && targets.shape.length !== 1)
  ) {
    const got = targets ? formatTensor("targets", targets) : "nothing";
    throw shapeError(op, `targets must be [N] i32 or u32 with N = ${sizes.rows}`, got);
  }
  return sizes;
}

function checkAttrs({ reduction = "mean", labelSmoothing = 0, ignoreIndex = -100 }: CrossEntropyAttrs): void {
  if (reduction !== "mean" && reduction !== "sum") {
    throw new HeedError("UNSUPPORTED", `cross_entropy: reduction must be "mean" or "sum"; got "${String(reduction)}".`);
  }
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new HeedError("USAGE", `cross_entropy: labelSmoothing must be from 0 to 1; got ${labelSmoothing}.`);
  }
  if (!Number.isInteger(ignoreIndex)) {
    throw new HeedError("USAGE", `cross_entropy: ignoreIndex must be a whole number; got ${ignoreIndex}.`);
  }
}

/** The loss and what it is made of. */
export interface CrossEntropyResult {
  /** `[1]`. */
  readonly loss: Value;
  /** `[rows]`: of each row, 0 where ignored. */
  readonly losses: Value;
  /** `[rows]`. */
  readonly lse: Value;
}

/**
 * `loss = mean over the counted rows of logsumexp(logits[n]) − logits[n, targets[n]]`; rows whose target is no class, such as
 * −100, count for nothing, and the loss is 0 if no row counts.
 *
 * logits `[N, V]` f32, or a view, or `[N, V, …]`; targets `[N]`, or `[N, …]`, i32 or u32 → `[1]` f32. Throws `SHAPE`.
 */
export function crossEntropy(rec: Recorder, logits: Value, targets: Value, attrs: CrossEntropyAttrs = {}): Value {
  return crossEntropyOf(rec, { logits, targets }, attrs).loss;
}

/** {@link crossEntropy} with what it is made of; `weights` `[V]` f32 multiplies the loss of each class. */
export function crossEntropyOf(
  rec: Recorder,
  inputs: { readonly logits: Value; readonly targets: Value; readonly weights?: Value },
  attrs: CrossEntropyAttrs = {},
): CrossEntropyResult {
  const [loss, lse, , losses] = rec.record(CROSS_ENTROPY, { ...inputs }, attrs);
  return { loss, losses, lse } as CrossEntropyResult;
}
