import { type EncoderContext, type EncoderInput, encodeInput, needHead, type TruncateOptions } from "./encoder_text.ts";
import type { EncoderCallOptions } from "./encoder_runtime.ts";

/** How {@link EncoderModel.classify} works. */
export interface ClassifyOptions extends EncoderCallOptions, TruncateOptions {}

/** A label with its score. */
export interface LabelScore {
  readonly label: string;
  readonly score: number;
}

/** What a classifier says of a text. */
export interface Classification extends LabelScore {
  /**
   * Every label, by falling score: probabilities that sum to 1, or of each label by itself where several may hold
   * (`multi_label_classification`), or plain numbers (`regression`).
   */
  readonly scores: readonly LabelScore[];
  /** Some of the text was left out. */
  readonly truncated: boolean;
}

/** Classes of each input. */
export async function classifyAll(
  context: EncoderContext,
  inputs: readonly EncoderInput[],
  options: ClassifyOptions,
): Promise<Classification[]> {
  const { runtime } = context;
  needHead("classify", "classes", runtime.encoder);
  const encoded = inputs.map((input) => encodeInput("classify", context, input, options));
  const logits = await runtime.run("classify", encoded, "logits", options);
  const { labels = [], problem } = runtime.encoder.head ?? {};
  return logits.map((row, i) => {
    const numbers = problem === "single_label" ? softmax(row) : problem === "multi_label" ? row.map(sigmoid) : row;
    const scores = labels.map((label, at) => ({ label, score: numbers[at] as number }));
    scores.sort((a, b) => b.score - a.score);
    const best = scores[0] as LabelScore;
    return { ...best, scores, truncated: encoded[i]?.truncated ?? false };
  });
}

/** `exp(x) / Σ exp(x)`, in float64. */
export function softmax(row: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(row);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = values.map((x) => Math.exp(x - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
