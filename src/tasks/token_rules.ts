import { packSeen, seenWords } from "../ops/sample.ts";
import { NO_TOKEN, ruleWords } from "../ops/token_choice.ts";

/** Which tokens may come next, whatever the model says. Each rule looks at the tokens so far. */
export interface TokenRules {
  /** No run of so many tokens comes twice, the prompt counted; 0 for none. */
  readonly noRepeatNgram: number;
  /** Runs of tokens that never come. */
  readonly badWords: readonly (readonly number[])[];
  /** Tokens that never come. */
  readonly suppressed: readonly number[];
  /** Tokens that do not come first. */
  readonly beginSuppressed: readonly number[];
  /** The token that comes after a single one, as the language does in translation. */
  readonly forcedBos: number | undefined;
  /** Any of these comes last where no more tokens may come. */
  readonly forcedEos: readonly number[];
  /** End tokens do not come before so many tokens, the prompt counted. */
  readonly minLength: number;
  /** End tokens do not come before so many new tokens. */
  readonly minNewTokens: number;
  /** Log-probabilities of tokens that occurred are multiplied by it in a search; 1 for none. */
  readonly repetitionPenalty: number;
  /** In a search the probabilities of the tokens that may come sum to one again, whatever the other rules did to them. */
  readonly isRenormalised: boolean;
  /** Speech with times: where in the sound a text begins and ends is written as tokens. For a search alone. */
  readonly timestamps?: TimestampRule | undefined;
}

/** Tokens that stand for times, from the first to the last of the vocabulary. The token before the first says that there are none. */
export interface TimestampRule {
  readonly firstId: number;
  readonly lastId: number;
  /** The first time is at most so many steps from the beginning; default: none. */
  readonly mostInitial?: number | undefined;
}

/** Where a generation stands. */
export interface RuledTokens {
  /** Prompt and new tokens; in an encoder–decoder those of the decoder. */
  readonly ids: readonly number[];
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly eosIds: readonly number[];
}

/** What the rules say of the next token: the only ones that may come, or those that may not. */
export type RuledNext = { readonly only: readonly number[] } | { readonly banned: readonly number[] };

/** True if some rule bans or forces tokens. The penalty is no rule in this sense: sampling has its own. */
export function hasRules(rules: TokenRules): boolean {
  const { noRepeatNgram, badWords, suppressed, beginSuppressed, forcedBos, forcedEos, minLength, minNewTokens } = rules;
  const lists = [badWords, suppressed, beginSuppressed, forcedEos];
  const isTimed = rules.timestamps !== undefined;
  return (
    isTimed ||
    noRepeatNgram + minLength + minNewTokens > 0 ||
    forcedBos !== undefined ||
    lists.some((l) => l.length > 0)
  );
}

/** How many next tokens have the same rules, whatever those tokens are: 1 where the rules look at them. */
export function sameRulesFor(rules: TokenRules, { ids, promptLength, maxTokens }: RuledTokens): number {
  if (rules.noRepeatNgram > 0 || rules.badWords.some((word) => word.length > 1)) return 1;
  const made = ids.length - promptLength;
  if (made === 0 && (rules.beginSuppressed.length > 0 || rules.forcedBos !== undefined)) return 1;
  const changes = [
    rules.minNewTokens - made,
    rules.minLength - ids.length,
    rules.forcedEos.length > 0 ? maxTokens - 1 - made : 0,
  ];
  return Math.min(Number.POSITIVE_INFINITY, ...changes.filter((n) => n > 0));
}

/** What may come next. Sources of the rules: the Hub's generation settings of the same names. */
export function nextTokens(rules: TokenRules, at: RuledTokens): RuledNext {
  const { ids, promptLength, maxTokens, eosIds } = at;
  const made = ids.length - promptLength;
  if (rules.forcedEos.length > 0 && made === maxTokens - 1) return { only: rules.forcedEos };
  if (rules.forcedBos !== undefined && ids.length === 1) return { only: [rules.forcedBos] };
  const isEarly = made < rules.minNewTokens || ids.length < rules.minLength;
  return {
    banned: [
      ...rules.suppressed,
      ...(made === 0 ? rules.beginSuppressed : []),
      ...(isEarly ? eosIds : []),
      ...repeated(ids, rules.noRepeatNgram),
      ...rules.badWords.flatMap((word) => (endsWith(ids, word.slice(0, -1)) ? (word.at(-1) ?? []) : [])),
      ...(rules.timestamps ? untimely(rules.timestamps, at) : []),
    ],
  };
}

/**
 * Tokens that would break the order of times: the first token is one, they come in pairs (an end, then the next beginning) or right
 * before the end of all, and they never fall. Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision"
 * (2022), §4.5, and the released code's decoding.
 */
function untimely(
  { firstId, lastId, mostInitial }: TimestampRule,
  { ids, promptLength, eosIds }: RuledTokens,
): number[] {
  const made = ids.slice(promptLength);
  const isTime = (id: number | undefined) => id !== undefined && id >= firstId;
  const noTimes = firstId - 1;
  if (made.length === 0) {
    const most = mostInitial === undefined ? lastId : firstId + mostInitial;
    return [...span(0, firstId - 1), ...span(most + 1, lastId)];
  }
  const endsText = isTime(made.at(-1)) && made.length > 1 && !isTime(made.at(-2));
  const time = made.findLast(isTime);
  // After a text's end the next text may begin at that very time; otherwise a time does not come again.
  const least = time === undefined ? firstId : endsText ? time : time + 1;
  const tooEarly = span(firstId, Math.min(least - 1, lastId));
  if (!isTime(made.at(-1))) return [noTimes, ...tooEarly];
  return endsText
    ? [noTimes, ...span(0, Math.min(...eosIds, firstId) - 1), ...tooEarly]
    : [noTimes, ...span(firstId, lastId)];
}

/** Whole numbers from `from` to `to`. */
function span(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

/** A bit a token for those that may not come, `[seenWords(V)]`. */
export function packBanned(next: RuledNext, vocabSize: number): Uint32Array<ArrayBuffer> {
  if ("banned" in next) {
    return packSeen(
      next.banned.filter((id) => id < vocabSize),
      vocabSize,
    );
  }
  const kept = packSeen(next.only, vocabSize);
  return kept.map((word) => ~word >>> 0);
}

/** A row of rules as `topTokens` reads it. */
export function packRules(rules: TokenRules, at: RuledTokens, vocabSize: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(ruleWords(vocabSize));
  new Float32Array(words.buffer)[0] = rules.repetitionPenalty;
  words[1] = rules.isRenormalised ? 1 : 0;
  words[2] = rules.timestamps?.firstId ?? NO_TOKEN;
  words.set(packBanned(nextTokens(rules, at), vocabSize), 3);
  if (rules.repetitionPenalty !== 1) words.set(packSeen(at.ids, vocabSize), 3 + seenWords(vocabSize));
  return words;
}

/** Tokens that would make a run of `n` come again. */
function repeated(ids: readonly number[], n: number): number[] {
  if (n === 0 || ids.length + 1 < n) return [];
  const last = n === 1 ? [] : ids.slice(-(n - 1));
  const banned: number[] = [];
  for (let i = 0; i + n <= ids.length; i++) {
    if (last.every((id, j) => ids[i + j] === id)) banned.push(ids[i + n - 1] as number);
  }
  return banned;
}

function endsWith(ids: readonly number[], end: readonly number[]): boolean {
  return end.length <= ids.length && end.every((id, j) => ids[ids.length - end.length + j] === id);
}
