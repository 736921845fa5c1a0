import { NO_TOKEN } from "../ops/token_choice.ts";

/** A token with its log-probability: the model's own, before temperature, penalties and rules. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** The log-probability of a generated token, and of those that were likeliest at its place. */
export interface GeneratedLogprob extends TokenLogprob {
  /** By falling log-probability; the generated token may be among them. */
  readonly top: readonly TokenLogprob[];
}

/** A row of what `topTokens` wrote, `[N, 1 + k, 2]`: its chosen token and the first `count` others. `words` has one step's rows. */
export function tokenLogprobs(
  { words, ranks }: { readonly words: Uint32Array<ArrayBuffer>; readonly ranks: number },
  row: number,
  count: number,
): GeneratedLogprob {
  const scores = new Float32Array(words.buffer, words.byteOffset, words.length);
  const first = row * (ranks + 1) * 2;
  const at = (rank: number): TokenLogprob => ({
    id: words[first + 2 * rank] as number,
    logprob: scores[first + 2 * rank + 1] as number,
  });
  const top = Array.from({ length: count }, (_, i) => at(i + 1)).filter(({ id }) => id !== NO_TOKEN);
  return { ...at(0), top };
}
