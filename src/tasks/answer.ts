import { HeedError } from "../core/errors.ts";
import type { EncoderCallOptions } from "./encoder_runtime.ts";
import {
  type EncoderContext,
  needHead,
  needTokenizer,
  type Window,
  type WindowOptions,
  windowsOf,
} from "./encoder_text.ts";

/** A question about a text. */
export interface Question {
  readonly question: string;
  readonly context: string;
}

/** How {@link EncoderModel.answer} works. */
export interface AnswerOptions extends EncoderCallOptions, WindowOptions {
  /** Answers to give; default 1. */
  readonly top?: number;
  /** Tokens of an answer at most; default 30. */
  readonly maxAnswerTokens?: number;
  /** Say "no answer" where that is likelier than every span, as models of SQuAD 2 are trained to; default true. */
  readonly noAnswer?: boolean;
}

/** A stretch of the context that may be the answer: `context.slice(start, end)`. */
export interface AnswerSpan {
  readonly text: string;
  /** Probability of its start times that of its end, over all windows. */
  readonly score: number;
  readonly start: number;
  readonly end: number;
}

/** What the model says to a question. */
export interface Answer {
  /** The best answer; empty where the context has none. */
  readonly text: string;
  /** Its probability, or that of there being no answer. */
  readonly score: number;
  /** Its place in the context; undefined where there is no answer. */
  readonly start: number | undefined;
  readonly end: number | undefined;
  /** Probability that the context has no answer, by the window that thinks so least. */
  readonly noAnswerScore: number;
  /** The best spans, by falling probability, whether or not there being none is likelier. */
  readonly answers: readonly AnswerSpan[];
}

const USUAL_WINDOW = 384;
const USUAL_STRIDE = 128;
const USUAL_ANSWER_TOKENS = 30;

/**
 * Answers each question. Long contexts are read in overlapping windows, whose spans are ranked by the sum of their two logits as in BERT's paper
 * (Devlin et al. 2018): a probability within each window would favour windows that hold little.
 */
export async function answerAll(
  context: EncoderContext,
  questions: readonly Question[],
  options: AnswerOptions,
): Promise<Answer[]> {
  const { runtime } = context;
  needHead("answer", "span", runtime.encoder);
  const { top = 1, maxAnswerTokens = USUAL_ANSWER_TOKENS, noAnswer = true } = options;
  for (const [name, value] of Object.entries({ top, maxAnswerTokens })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new HeedError("USAGE", `answer: ${name} must be a whole number from 1; got ${value}.`);
    }
  }
  const tokenizer = needTokenizer("answer", context);
  const maxTokens = options.maxTokens ?? Math.min(USUAL_WINDOW, runtime.encoder.facts.contextLength);
  const prepared = questions.map(({ question, context: text }) => {
    const { ids, offsets } = tokenizer.encodeWithOffsets(text);
    const before = tokenizer.encode(question, { addSpecialTokens: false });
    const stride = options.stride ?? Math.min(USUAL_STRIDE, Math.floor(maxTokens / 3));
    return { text, offsets, windows: windowsOf("answer", context, { ids, before }, { maxTokens, stride }) };
  });
  const all = prepared.flatMap(({ windows }) => windows);
  const logits = await runtime.run("answer", all, "logits", options);
  let next = 0;
  return prepared.map(({ text, offsets, windows }) => {
    const rows = windows.map(() => logits[next++] as Float32Array);
    return bestAnswer({ text, offsets, windows, rows }, { top, maxAnswerTokens, noAnswer });
  });
}

interface Read {
  readonly text: string;
  readonly offsets: readonly (readonly [number, number])[];
  readonly windows: readonly Window[];
  /** `[ids, 2]` of each window. */
  readonly rows: readonly Float32Array[];
}

function bestAnswer(
  { text, offsets, windows, rows }: Read,
  { top, maxAnswerTokens, noAnswer }: { top: number; maxAnswerTokens: number; noAnswer: boolean },
): Answer {
  const probability = spanProbability(windows, rows);
  const spans = new Map<string, AnswerSpan>();
  windows.forEach((window, w) => {
    for (const { first, last, logits } of bestSpans(window, rows[w] as Float32Array, { top, maxAnswerTokens })) {
      const [start, end] = [offsets[first]?.[0] ?? 0, offsets[last]?.[1] ?? 0];
      const score = probability.of(logits);
      const known = spans.get(`${start} ${end}`);
      if (known && known.score >= score) continue;
      spans.set(`${start} ${end}`, { text: text.slice(start, end), score, start, end });
    }
  });
  const noAnswerScore = probability.none;
  const answers = [...spans.values()].sort((a, b) => b.score - a.score || a.start - b.start).slice(0, top);
  const [best] = answers;
  if (!best || (noAnswer && noAnswerScore > best.score)) {
    return { text: "", score: noAnswerScore, start: undefined, end: undefined, noAnswerScore, answers };
  }
  return { ...best, noAnswerScore, answers };
}

interface SpanProbability {
  /** Of a span with this sum of its start's and its end's logit. */
  of(logits: number): number;
  /** Of there being no answer, which the first token stands for. */
  readonly none: number;
}

/** Softmax of starts times softmax of ends, over each token of the context once (where windows overlap, by its largest logit) and "none" once. */
function spanProbability(windows: readonly Window[], rows: readonly Float32Array[]): SpanProbability {
  const nulls = rows.map((row) => [row[0] as number, row[1] as number] as const);
  const none = nulls.reduce((a, b) => (b[0] + b[1] < a[0] + a[1] ? b : a), nulls[0] ?? ([0, 0] as const));
  const logOfSum = (side: 0 | 1): number => {
    const logits = new Map<number, number>();
    windows.forEach(({ start, from, to }, w) => {
      for (let token = from; token < to; token++) {
        const logit = rows[w]?.[2 * (start + token - from) + side] as number;
        logits.set(token, Math.max(logits.get(token) ?? -Infinity, logit));
      }
    });
    const all = [none[side], ...logits.values()];
    const largest = all.reduce((a, b) => Math.max(a, b), -Infinity);
    return largest + Math.log(all.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  };
  const logSum = logOfSum(0) + logOfSum(1);
  const of = (logits: number) => Math.exp(logits - logSum);
  return { of, none: of(none[0] + none[1]) };
}

interface TokenSpan {
  readonly first: number;
  readonly last: number;
  /** The sum of its start's and its end's. */
  readonly logits: number;
}

/** The best spans of a window by tokens of the context. */
function bestSpans(
  { start, from, to }: Window,
  row: Float32Array,
  { top, maxAnswerTokens }: { top: number; maxAnswerTokens: number },
): TokenSpan[] {
  const count = to - from;
  const spans: TokenSpan[] = [];
  for (let i = 0; i < count; i++) {
    for (let j = i; j < Math.min(count, i + maxAnswerTokens); j++) {
      const logits = (row[2 * (start + i)] as number) + (row[2 * (start + j) + 1] as number);
      const least = spans.at(-1);
      if (spans.length === top && least && logits <= least.logits) continue;
      const at = spans.findIndex((s) => s.logits < logits);
      spans.splice(at < 0 ? spans.length : at, 0, { first: from + i, last: from + j, logits });
      if (spans.length > top) spans.pop();
    }
  }
  return spans;
}
