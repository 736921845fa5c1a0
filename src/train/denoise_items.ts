import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { TokenItem, VaryItem } from "./item_batches.ts";
import { IGNORED_TARGET } from "./losses.ts";
import { maskWords } from "./task_items.ts";

/** Labels of BERT's second task, in the order of its head. */
export const NEXT_SENTENCE_LABELS = ["IsNext", "NotNext"] as const;

/** Tokens of a dropped span on average (Raffel et al. 2020, §3.3.4). */
const MEAN_SPAN = 3;

/** Sentences that are looked at for one of another document. */
const MOST_DRAWS = 50;

/** The sentences of a document, each but the last with the one that follows it. */
export function sentenceItems(tokenizer: Tokenizer, sentences: readonly string[], document: number): TokenItem[] {
  const encoded = sentences.map((sentence) => tokenizer.encode(sentence, { addSpecialTokens: false }));
  return encoded.slice(0, -1).map((ids, i) => ({ ids, targets: [], next: encoded[i + 1] ?? [], document }));
}

/**
 * Two sentences, of which the second follows the first in half of all cases, and else is one of another document, as far as there is one
 * (Devlin et al. 2019, §3.1, task 2). Where they are too long together, the longer one loses its end.
 */
export function pairSentences(tokenizer: Tokenizer, length: number): VaryItem {
  const room = length - tokenizer.framePair([], []).ids.length;
  if (room < 2) throw new HeedError("USAGE", `finetune: a length must leave room for two sentences; got ${length}.`);
  return (item, uniform, items) => {
    const follows = uniform() < 0.5;
    let other = item.next ?? [];
    if (!follows) {
      // Where all is one document, any other sentence has to do.
      for (let draw = 0; draw < MOST_DRAWS; draw++) {
        const drawn = items[Math.floor(uniform() * items.length)];
        if (!drawn || drawn === item) continue;
        // A second sentence too, so that none gives itself away by its place in a document.
        other = drawn.next ?? drawn.ids;
        if (drawn.document !== item.document) break;
      }
    }
    const isNext = other === item.next;
    const [first, second] = shortened(item.ids, other, room);
    const { ids, typeIds } = tokenizer.framePair(first, second);
    return { ids, segments: typeIds, targets: [isNext ? 0 : 1] };
  };
}

/**
 * Both of BERT's tasks at once (Devlin et al. 2019, §3.1): two sentences of which the second follows or does not, `follows` says which, and words of both
 * masked. Throws `USAGE` for what either refuses.
 */
export function maskAndPair(tokenizer: Tokenizer, length: number, rate?: number): VaryItem {
  const [pair, mask] = [pairSentences(tokenizer, length), maskWords(tokenizer, rate)];
  return (item, uniform, items) => {
    const {
      targets: [follows = IGNORED_TARGET],
      ...paired
    } = pair(item, uniform, items);
    return { ...mask({ ...paired, targets: [] }, uniform, items), follows };
  };
}

function shortened(a: readonly number[], b: readonly number[], room: number): [readonly number[], readonly number[]] {
  const least = Math.floor(room / 2);
  const first = Math.max(least, room - b.length);
  const left = a.slice(0, first);
  return [left, b.slice(0, room - left.length)];
}

/**
 * Both sides masked (Song et al. 2019, "MASS", §3.2): the encoder reads a text in which a run of tokens is masked, 80 % by the mask token, 10 % by any
 * token, 10 % as they are; the decoder predicts that run, and what it would read of the rest is masked in turn. `rate` is the run's share of
 * the text. Throws `USAGE` for a tokenizer without a mask token.
 */
export function maskBothSides(tokenizer: Tokenizer, decoderStart: number, rate = 0.5): VaryItem {
  const mask = tokenizer.maskId ?? sentinel(tokenizer, 0);
  if (mask === undefined || !(rate > 0 && rate <= 1)) {
    throw new HeedError(
      "USAGE",
      `finetune: masked-translation needs a mask token and a rate in (0, 1]; got ${mask ?? "no token"} and ${rate}. Add "<mask>" to the tokenizer.`,
    );
  }
  return ({ ids }, uniform) => {
    const words = tokenizer.isSpecial(ids.at(-1) ?? -1) ? ids.length - 1 : ids.length;
    const count = Math.max(1, Math.round(rate * words));
    const start = Math.floor(uniform() * (words - count + 1));
    const isMasked = (t: number): boolean => t >= start && t < start + count;
    const source = ids.map((id, t) => {
      if (!isMasked(t)) return id;
      const roll = uniform();
      return roll < 0.8 ? mask : roll < 0.9 ? Math.floor(uniform() * tokenizer.vocabSize) : id;
    });
    const decoder = ids.map((_, t) => (t === 0 ? decoderStart : isMasked(t - 1) ? (ids[t - 1] ?? mask) : mask));
    return { ids: source, targets: ids.map((id, t) => (isMasked(t) ? id : IGNORED_TARGET)), decoder };
  };
}

/**
 * Spans dropped from a text (Raffel et al. 2020, §3.1.4): the encoder reads it with a sentinel in place of each span, the decoder predicts the spans,
 * each behind its sentinel, and a last sentinel. `rate` is the share of tokens that are dropped. Throws `USAGE` for a tokenizer without
 * sentinels.
 */
export function dropSpans(tokenizer: Tokenizer, rate = 0.15): VaryItem {
  if (sentinel(tokenizer, 0) === undefined || !(rate > 0 && rate < 1)) {
    throw new HeedError(
      "USAGE",
      `finetune: span-corruption needs sentinels <extra_id_0>, <extra_id_1>, … and a rate in (0, 1); got ${sentinel(tokenizer, 0) ?? "none"} and ${rate}. Take masked-translation for other tokenizers.`,
    );
  }
  let sentinels = 0;
  while (sentinel(tokenizer, sentinels) !== undefined) sentinels++;
  return ({ ids }, uniform) => {
    const ended = tokenizer.isSpecial(ids.at(-1) ?? -1);
    const words = ended ? ids.slice(0, -1) : ids;
    const end = ended ? ids.slice(-1) : [];
    if (words.length < 2) return { ids, targets: ids };
    const dropped = Math.min(words.length - 1, Math.max(1, Math.round(rate * words.length)));
    const most = Math.min(dropped, words.length - dropped, sentinels - 1);
    const spans = Math.max(1, Math.min(most, Math.round(dropped / MEAN_SPAN)));
    const [kept, lost] = [parts(words.length - dropped, spans, uniform), parts(dropped, spans, uniform)];
    const [source, target]: [number[], number[]] = [[], []];
    let at = 0;
    for (let span = 0; span < spans; span++) {
      const mark = sentinel(tokenizer, span) ?? 0;
      const from = at + (kept[span] ?? 0);
      const to = from + (lost[span] ?? 0);
      source.push(...words.slice(at, from), mark);
      target.push(mark, ...words.slice(from, to));
      at = to;
    }
    return { ids: [...source, ...end], targets: [...target, sentinel(tokenizer, spans) ?? 0, ...end] };
  };
}

/** A whole number as a sum of so many, each at least 1. */
function parts(total: number, count: number, uniform: () => number): number[] {
  const cuts = new Set<number>();
  while (cuts.size < count - 1) cuts.add(1 + Math.floor(uniform() * (total - 1)));
  const places = [0, ...[...cuts].sort((a, b) => a - b), total];
  return places.slice(1).map((place, i) => place - (places[i] ?? 0));
}

function sentinel(tokenizer: Tokenizer, i: number): number | undefined {
  return tokenizer.tokenToId(`<extra_id_${i}>`);
}
