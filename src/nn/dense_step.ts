import { maskedSoftmax, qkScores, weightedSum } from "../ops/attention_unfused.ts";
import type { Value } from "../ops/op.ts";
import { type DecoderStep, namedConstant } from "./step.ts";

/** What {@link denseStep} needs: `batch` sequences of `length` tokens each, row b·length + t. */
export interface DenseStepParts {
  readonly tokens: Value;
  readonly rowTable: Value;
  readonly batch: number;
  readonly length: number;
  readonly constants: Readonly<Record<string, Value>>;
  /** Backward computes each block again instead of keeping its intermediates. */
  readonly recompute?: boolean;
}

/** A step on whole sequences without a cache, through the three named kernels, each of which has a gradient. */
export function denseStep(parts: DenseStepParts): DecoderStep {
  const { batch, length } = parts;
  return {
    tokens: parts.tokens,
    rowTable: parts.rowTable,
    constant: (name) => namedConstant(parts.constants, name),
    block(rec, layer, body) {
      const scoped = () => rec.scope(`block.${layer}`, body);
      return parts.recompute ? rec.recomputed(scoped) : scoped();
    },
    attend(rec, { q, k, v, heads, kvHeads, headDim, scale, window }) {
      const layout = {
        batch,
        heads,
        kvHeads,
        headDim,
        queryLength: length,
        keyLength: length,
        layout: "rows",
      } as const;
      const scores = rec.name(qkScores(rec, { q, k }, { ...layout, scale }), "scores"); // [B, H, T, S]
      const probs = rec.name(maskedSoftmax(rec, scores, { causal: true, window }), "probs"); // [B, H, T, S]
      return rec.name(weightedSum(rec, { probs, v }, layout), "mixed"); // [N, H·D]
    },
  };
}
