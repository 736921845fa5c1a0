import { HeedError } from "../../core/errors.ts";

/** How well a language model predicts a text. */
export interface Perplexity {
  /** `exp(nats)`. */
  readonly perplexity: number;
  /** Mean negative log-likelihood of a token, natural logarithm. */
  readonly nats: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
}

/** What a text is measured with. */
export interface PerplexityOptions {
  /** Tokens that the model reads at once. */
  readonly length: number;
  /** Logits `[T][V]` of the token after each of the given ones. */
  readonly logits: (tokens: readonly number[]) => Promise<readonly ArrayLike<number>[]>;
}

/** Perplexity of a text, in windows side by side that share one token, so that each but the first is predicted once. Throws `USAGE` for less than two tokens. */
export async function perplexity(
  tokens: readonly number[],
  { length, logits }: PerplexityOptions,
): Promise<Perplexity> {
  if (tokens.length < 2) {
    throw new HeedError("USAGE", `perplexity: a text of at least two tokens is needed; got ${tokens.length}.`);
  }
  let sum = 0;
  for (let start = 0; start + 1 < tokens.length; start += length) {
    const targets = tokens.slice(start + 1, start + 1 + length);
    const rows = await logits(tokens.slice(start, start + targets.length));
    targets.forEach((target, t) => {
      sum += negativeLogLikelihood(rows[t] ?? [], target);
    });
  }
  const count = tokens.length - 1;
  return { perplexity: Math.exp(sum / count), nats: sum / count, tokens: count };
}

function negativeLogLikelihood(row: ArrayLike<number>, target: number): number {
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < row.length; i++) high = Math.max(high, row[i] ?? high);
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp((row[i] ?? 0) - high);
  return high + Math.log(sum) - (row[target] ?? Number.NEGATIVE_INFINITY);
}
