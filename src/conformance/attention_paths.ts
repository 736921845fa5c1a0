import { attentionUnfused, qkScores } from "../ops/attention_unfused.ts";
import type { Value } from "../ops/op.ts";
import type { ArrayTensor, OpInput } from "../program/direct.ts";
import { type AttentionCallOptions, attentionProgram, gradientsOf } from "../tasks/direct_attention.ts";
import { largest } from "./compare.ts";
import type { CaseRun } from "./run.ts";

/** q, k and v of a case. */
export interface Qkv {
  readonly q: ArrayTensor;
  readonly k: ArrayTensor;
  readonly v: ArrayTensor;
}

interface Results {
  readonly result: Readonly<Record<string, ArrayTensor>>;
  readonly kernels: readonly string[];
}

/** Attention by the three named kernels: out, probs, lse, and scores after the soft cap, before biases and masks. */
export function threeKernels(run: CaseRun, qkv: Qkv, options: AttentionCallOptions): Promise<Results> {
  const program = attentionProgram(qkv, options);
  return run.call((call) =>
    run.engine.programs.run(
      {
        op: "attention by three kernels",
        inputs: program.inputs,
        attrs: program.attrs,
        record: (rec, values) => ({ ...attentionUnfused(rec, qkvOf(values), program.options(values)) }),
      },
      { ...call, as: "array" },
    ),
  );
}

/** The gradients of attention by the three named kernels. */
export function threeKernelGradients(
  run: CaseRun,
  { dout, ...qkv }: Qkv & { dout: ArrayTensor },
  options: AttentionCallOptions,
): Promise<Results> {
  const program = attentionProgram(qkv, options);
  const inputs: Record<string, OpInput | undefined> = { ...program.inputs, dout };
  return run.call((call) =>
    run.engine.programs.run(
      {
        op: "attention by three kernels, backward",
        inputs,
        attrs: program.attrs,
        record: (rec, values) =>
          gradientsOf(rec, attentionUnfused(rec, qkvOf(values), program.options(values)).out, values),
      },
      { ...call, as: "array" },
    ),
  );
}

/** `scale · q kᵀ`, before soft cap, biases and masks. */
export function plainScores(run: CaseRun, qkv: Qkv, options: { readonly scale?: number }): Promise<Results> {
  const { inputs, attrs, options: optionsOf } = attentionProgram(qkv, { scale: options.scale });
  return run.call((call) =>
    run.engine.programs.run(
      {
        op: "qk_scores",
        inputs: { q: inputs["q"], k: inputs["k"] },
        attrs,
        record: (rec, values) => ({ scores: qkScores(rec, qkvOf(values), optionsOf(values)) }),
      },
      { ...call, as: "array" },
    ),
  );
}

/** What `out` and the gradients may be off by because scores are large: `2 · √D · 2⁻²⁴ · max|score| · max|value|`. */
export function largeScoreSlack(headDim: number, scores: ArrayLike<number>, values: ArrayLike<number>): number {
  return 2 * Math.sqrt(headDim) * 2 ** -24 * largest(scores) * largest(values);
}

function qkvOf(values: Readonly<Record<string, Value | undefined>>): Record<"q" | "k" | "v", Value> {
  return values as Record<"q" | "k" | "v", Value>;
}
