import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { TokenItem, VaryItem } from "./item_batches.ts";
import { IGNORED_TARGET } from "./losses.ts";

/** A text to go on with: each token is predicted from those before it, the end token last where the tokenizer has one. */
export function textItem(tokenizer: Tokenizer, text: string): TokenItem {
  const { eosId } = tokenizer;
  const framed = tokenizer.encode(text);
  const ids = eosId === undefined || framed.at(-1) === eosId ? framed : [...framed, eosId];
  return { ids: ids.slice(0, -1), targets: ids.slice(1) };
}

/** The same in pieces of at most `length` tokens, so that none is left out. */
export function textItems(tokenizer: Tokenizer, text: string, length: number): TokenItem[] {
  const { ids, targets } = textItem(tokenizer, text);
  const count = Math.ceil(ids.length / length);
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [i * length, (i + 1) * length];
    return { ids: ids.slice(from, to), targets: targets.slice(from, to) };
  });
}

/** A prompt and its completion, of which the completion alone is predicted; `prefix` lets the prompt see itself both ways. */
export function completionItem(tokenizer: Tokenizer, prompt: string, completion: string): TokenItem {
  const { eosId } = tokenizer;
  const framed = tokenizer.encode(prompt);
  const before = framed.at(-1) === eosId && eosId !== undefined ? framed.slice(0, -1) : framed;
  const after = [...tokenizer.encode(completion, { addSpecialTokens: false }), ...(eosId === undefined ? [] : [eosId])];
  if (before.length === 0 || after.length === 0) {
    throw new HeedError("USAGE", "finetune: a prompt and a completion must have a token each; got an empty one.");
  }
  const ids = [...before, ...after];
  const targets = ids.slice(1).map((id, t) => (t + 1 < before.length ? IGNORED_TARGET : id));
  return { ids: ids.slice(0, -1), targets, prefix: before.length };
}

/** A text of a class, cut to `length` tokens, those around it included. */
export function classItem(tokenizer: Tokenizer, text: string, label: number, length: number): TokenItem {
  const { ids, typeIds } = framedText(tokenizer, text, length);
  return { ids, segments: typeIds, targets: [label] };
}

/** A question and a text that has its answer, or has none. */
export interface AnsweredQuestion {
  readonly question: string;
  readonly context: string;
  /** Places in UTF-16 code units; the first counts. Empty where there is no answer. */
  readonly answers: readonly { readonly text: string; readonly start: number }[];
}

/**
 * A question with each window of its text, a third of a window in common, as `heed answer` reads it. Targets are the answer's first and last
 * token; the first token of all where a window does not hold it whole. Throws `USAGE` for a length that leaves the text no room.
 */
export function answerItems(
  tokenizer: Tokenizer,
  { question, context, answers }: AnsweredQuestion,
  length: number,
): TokenItem[] {
  const { ids, offsets } = tokenizer.encodeWithOffsets(context);
  const asked = tokenizer.encode(question, { addSpecialTokens: false });
  const room = length - tokenizer.framePair(asked, []).ids.length;
  const step = room - Math.floor(length / 3);
  if (step < 1) {
    throw new HeedError(
      "USAGE",
      `finetune: a length must leave room for a question and a text; got ${length} for a question of ${asked.length} tokens. Raise the length.`,
    );
  }
  const [answer] = answers;
  const [from, to] = answer ? [answer.start, answer.start + answer.text.length] : [0, 0];
  const first = offsets.findIndex(([, end]) => end > from);
  const last = offsets.findLastIndex(([start]) => start < to);
  const items: TokenItem[] = [];
  for (let at = 0; ; at += step) {
    const part = ids.slice(at, at + room);
    const framed = tokenizer.framePair(asked, part);
    const shift = (framed.starts[1] ?? 0) - at;
    const inside = answer !== undefined && first >= at && last >= first && last < at + part.length;
    const targets = inside ? [first + shift, last + shift] : [0, 0];
    items.push({ ids: framed.ids, segments: framed.typeIds, targets });
    if (at + room >= ids.length) return items;
  }
}

/** Words with a label each: the first token of a word has it, the others and those around don't count. */
export function labelledItem(
  tokenizer: Tokenizer,
  words: readonly string[],
  labels: readonly number[],
  length: number,
): TokenItem {
  const pieces = words.map((word) => tokenizer.encode(word, { addSpecialTokens: false }));
  const own = pieces.flatMap((ids, w) => ids.map((_, i) => (i === 0 ? (labels[w] ?? IGNORED_TARGET) : IGNORED_TARGET)));
  const { ids, typeIds, starts } = tokenizer.framePair(pieces.flat());
  const targets = ids.map((_, t) => own[t - starts[0]] ?? IGNORED_TARGET);
  return { ids: ids.slice(0, length), segments: typeIds.slice(0, length), targets: targets.slice(0, length) };
}

/** A text whose words are to be masked; {@link maskWords} chooses them anew each time. */
export function wordsItem(tokenizer: Tokenizer, text: string, length: number): TokenItem {
  const { ids, typeIds } = framedText(tokenizer, text, length);
  return { ids, segments: typeIds, targets: ids.map(() => IGNORED_TARGET) };
}

/** A text for an encoder–decoder that is to be masked, cut to `length` tokens, its end token among them. */
export function sourceItem(tokenizer: Tokenizer, text: string, length: number): TokenItem {
  const own = tokenizer.encode(text);
  const { eosId } = tokenizer;
  const words = own.at(-1) === eosId && eosId !== undefined ? own.slice(0, -1) : own;
  const end = eosId === undefined ? [] : [eosId];
  const ids = [...words.slice(0, length - end.length), ...end];
  return { ids, targets: ids };
}

function framedText(tokenizer: Tokenizer, text: string, length: number): { ids: number[]; typeIds: number[] } {
  const own = tokenizer.encode(text, { addSpecialTokens: false });
  const frame = tokenizer.framePair([]).ids.length;
  return tokenizer.framePair(own.slice(0, Math.max(0, length - frame)));
}

/** A text and its translation, each with what its tokenizer puts around it, the end token where it puts none. Throws `USAGE` for an empty side. */
export function translationItem(
  { source, target = source }: { readonly source: Tokenizer; readonly target?: Tokenizer },
  pair: { readonly source: string; readonly target: string },
): TokenItem {
  const ended = (tokenizer: Tokenizer, text: string): number[] => {
    const ids = tokenizer.encode(text);
    const { eosId } = tokenizer;
    if (pair.source.trim() === "" || pair.target.trim() === "") {
      throw new HeedError("USAGE", "finetune: a translation must have text on both sides; got an empty one.");
    }
    return eosId === undefined || ids.at(-1) === eosId ? ids : [...ids, eosId];
  };
  return { ids: ended(source, pair.source), targets: ended(target, pair.target) };
}

/**
 * Chooses a share of the tokens to be predicted (Devlin et al. 2019, §3.1: 15 %), special ones never, at least one: of these 80 % become
 * the mask token, 10 % any token, 10 % stay. Throws `USAGE` for a tokenizer without a mask token.
 */
export function maskWords(tokenizer: Tokenizer, rate = 0.15): VaryItem {
  const mask = tokenizer.tokenToId("[MASK]") ?? tokenizer.tokenToId("<mask>");
  if (mask === undefined || !(rate > 0 && rate <= 1)) {
    throw new HeedError(
      "USAGE",
      `finetune: masked-lm needs a mask token and a rate in (0, 1]; got ${mask ?? "no token"} and ${rate}. Take a tokenizer with "[MASK]" or "<mask>" among its special tokens.`,
    );
  }
  return (item, uniform) => {
    const places = item.ids.flatMap((id, t) => (tokenizer.isSpecial(id) ? [] : [t]));
    const sure = places[Math.floor(uniform() * places.length)];
    const chosen = new Set(places.filter((t) => t === sure || uniform() < rate));
    const targets = item.ids.map((id, t) => (chosen.has(t) ? id : IGNORED_TARGET));
    const ids = item.ids.map((id, t) => {
      if (!chosen.has(t)) return id;
      const roll = uniform();
      return roll < 0.8 ? mask : roll < 0.9 ? Math.floor(uniform() * tokenizer.vocabSize) : id;
    });
    return { ...item, ids, targets };
  };
}
