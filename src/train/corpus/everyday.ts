import { invariant } from "../../core/errors.ts";
import type { Sentence } from "./action_parts.ts";
import { actionSentence, requestSentence, whoSentence } from "./action_sentences.ts";
import { calendarSentence, joinedSentence, routineSentence, whatSentence, workSentence } from "./day_frames.ts";
import { Draw } from "./draw.ts";
import { capitalise } from "./english.ts";
import { PHRASES } from "./phrases.ts";
import { qualitySentence } from "./quality_frames.ts";
import {
  givingSentence,
  havingSentence,
  identitySentence,
  numberSentence,
  ownerSentence,
  placeSentence,
} from "./state_frames.ts";

/** A Chinese sentence and its English one. */
export interface SentencePair {
  readonly zh: string;
  readonly en: string;
}

/** Three parts of one grammar; no combination of the last two occurs in the first. */
export interface EverydayCorpus {
  readonly train: readonly SentencePair[];
  readonly validation: readonly SentencePair[];
  readonly test: readonly SentencePair[];
}

/** How many pairs to write and from which seed. */
export interface EverydayOptions {
  /** Default 1. */
  readonly seed?: number;
  /** Distinct training pairs, counted without the copies that lack their final punctuation; default 100,000. */
  readonly train?: number;
  /** Default 1,000. */
  readonly validation?: number;
  /** Default 2,000. */
  readonly test?: number;
}

/** Of each 1,000 combinations of content words so many are held out. */
const HELD_OUT_PER_THOUSAND = 40;

/** How often each fixed phrase occurs in training, with its punctuation and as often without. */
const PHRASE_COPIES = 8;

const FRAMES: readonly { readonly weight: number; readonly build: (draw: Draw) => Sentence }[] = [
  { weight: 44, build: actionSentence },
  { weight: 3, build: requestSentence },
  { weight: 2, build: whoSentence },
  { weight: 9, build: identitySentence },
  { weight: 9, build: havingSentence },
  { weight: 8, build: placeSentence },
  { weight: 4, build: numberSentence },
  { weight: 3, build: ownerSentence },
  { weight: 3, build: givingSentence },
  { weight: 10, build: qualitySentence },
  { weight: 3, build: calendarSentence },
  { weight: 2, build: routineSentence },
  { weight: 2, build: whatSentence },
  { weight: 3, build: joinedSentence },
  { weight: 2, build: workSentence },
];

/**
 * Everyday sentences in Chinese and English, made by a grammar: people, work, food, places, time, travel, questions and
 * denials. The same options give the same corpus. Each Chinese sentence has one English one; a share of the combinations of
 * subject, verb and object (or of subject and quality, thing and place …) never occurs in training in any tense or form,
 * and is what validation and test consist of. In each part every fifth Chinese sentence or so lacks its final punctuation.
 *
 * ```ts
 * const { train, test } = everydayCorpus({ seed: 1 });
 * ```
 */
export function everydayCorpus(options: EverydayOptions = {}): EverydayCorpus {
  const { seed = 1, train: wanted = 100_000, validation = 1000, test = 2000 } = options;
  const draw = new Draw(seed);
  const english = new Map<string, string>();
  const train: SentencePair[] = [];
  const heldOut: SentencePair[] = [];
  for (const [zh, en] of PHRASES) {
    english.set(zh, en);
    // Short and fixed, so that nothing but its own line teaches it.
    for (let i = 0; i < PHRASE_COPIES; i++) train.push({ zh, en }, { zh: zh.replace(/[。？！]$/, ""), en });
  }
  while (english.size - heldOut.length < wanted || heldOut.length < validation + test) {
    const sentence = draw.weighted(FRAMES).build(draw);
    const isHeldOut = sentence.key !== undefined && hash(sentence.key) % 1000 < HELD_OUT_PER_THOUSAND;
    if (isHeldOut ? heldOut.length >= validation + test : english.size - heldOut.length >= wanted) continue;
    const pair = finish(sentence);
    const known = english.get(pair.zh);
    invariant(known === undefined || known === pair.en, `corpus: ${pair.zh} has two translations: ${known} ${pair.en}`);
    if (known !== undefined) continue;
    english.set(pair.zh, pair.en);
    const asked = draw.chance(0.2) ? { zh: pair.zh.slice(0, -1), en: pair.en } : pair;
    (isHeldOut ? heldOut : train).push(asked);
  }
  draw.shuffle(train);
  draw.shuffle(heldOut);
  return { train, test: heldOut.slice(0, test), validation: heldOut.slice(test, test + validation) };
}

const CHINESE_END = { ".": "。", "?": "？", "!": "！" } as const;

function finish({ zh, en, end }: Sentence): SentencePair {
  // "Dr. Zhang's", but one period at the end.
  return { zh: zh + CHINESE_END[end], en: capitalise(en) + end };
}

/** FNV-1a over the code units, mixed so that any bits of it may be used. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
