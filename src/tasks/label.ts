import { HeedError } from "../core/errors.ts";
import { softmax } from "./classify.ts";
import type { EncoderCallOptions } from "./encoder_runtime.ts";
import { type EncoderContext, needHead, needTokenizer, type Window, windowsOf } from "./encoder_text.ts";

/**
 * How labels of tokens become entities. `none`: each token by itself. `simple`: neighbours of one kind together. The others
 * first give the tokens of a word one label: that of its `first` token, of their `average`, or of the surest (`max`).
 */
export type LabelAggregation = "none" | "simple" | "first" | "average" | "max";

/** How {@link EncoderModel.label} works. */
export interface LabelOptions extends EncoderCallOptions {
  /** Default `simple`. */
  readonly aggregation?: LabelAggregation;
  /** Labels that are no entities; default `O`. */
  readonly ignore?: readonly string[];
  /** Tokens that the windows of a long text have in common; default a third of a window. */
  readonly stride?: number;
}

/** A labelled stretch of a text: `text.slice(start, end)`. */
export interface Entity {
  /** Without `B-` and `I-`, but for `none`. */
  readonly label: string;
  /** Mean probability of the label over the stretch. */
  readonly score: number;
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

interface LabelledToken {
  readonly scores: Float64Array;
  readonly start: number;
  readonly end: number;
  /** Goes on with the word of the token before it. */
  readonly joins: boolean;
}

const AGGREGATIONS: readonly LabelAggregation[] = ["none", "simple", "first", "average", "max"];

/** Entities of each text. A long text is read in overlapping windows; a token counts where it stands farthest from a window's ends. */
export async function labelAll(
  context: EncoderContext,
  texts: readonly string[],
  { aggregation = "simple", ignore = ["O"], stride, ...options }: LabelOptions,
): Promise<Entity[][]> {
  const { runtime } = context;
  needHead("label", "labels", runtime.encoder);
  if (!AGGREGATIONS.includes(aggregation)) {
    throw new HeedError("USAGE", `label: aggregation must be ${AGGREGATIONS.join(", ")}; got ${String(aggregation)}.`);
  }
  const tokenizer = needTokenizer("label", context);
  const encoded = texts.map((text) => tokenizer.encodeWithOffsets(text));
  const windows = encoded.map(({ ids }) => windowsOf("label", context, { ids }, { stride }));
  const logits = await runtime.run("label", windows.flat(), "logits", options);
  const { labels = [] } = runtime.encoder.head ?? {};
  let next = 0;
  return texts.map((text, i) => {
    const { ids, offsets } = encoded[i] as (typeof encoded)[number];
    const own = windows[i] as Window[];
    const rows = own.map(() => logits[next++] as Float32Array);
    const tokens = ids.map((id, t): LabelledToken => {
      const [start, end] = offsets[t] as readonly [number, number];
      const scores = softmax(rowOf(own, rows, t, labels.length));
      return { scores, start, end, joins: joinsWord(tokenizer.idToToken(id) ?? "", text, start, t) };
    });
    return entitiesOf(text, tokens, { labels, aggregation }).filter(({ label }) => !ignore.includes(label));
  });
}

/** The labels' logits of token t, from the window in whose middle it stands most. */
function rowOf(windows: readonly Window[], rows: readonly Float32Array[], t: number, width: number): Float32Array {
  const margin = ({ from, to }: Window) => (t >= from && t < to ? Math.min(t - from, to - 1 - t) : -1);
  const margins = windows.map(margin);
  const best = margins.indexOf(Math.max(...margins));
  const { start, from } = windows[best] as Window;
  const at = (start + t - from) * width;
  return (rows[best] as Float32Array).subarray(at, at + width);
}

/** A piece marked as WordPiece marks them, or one that follows another without a blank where pieces carry their blanks. */
function joinsWord(piece: string, text: string, start: number, t: number): boolean {
  if (piece.startsWith("##")) return true;
  const carriesBlank = /^[\u0120\u2581]/.test(piece);
  return (
    t > 0 &&
    start > 0 &&
    !carriesBlank &&
    !/\s/.test(text.slice(start - 1, start + 1)) &&
    /\p{L}|\p{N}/u.test(text[start - 1] ?? "") &&
    /\p{L}|\p{N}/u.test(text[start] ?? "")
  );
}

interface Scored {
  readonly label: string;
  readonly score: number;
  readonly start: number;
  readonly end: number;
}

function entitiesOf(
  text: string,
  tokens: readonly LabelledToken[],
  { labels, aggregation }: { readonly labels: readonly string[]; readonly aggregation: LabelAggregation },
): Entity[] {
  const words = aggregation === "none" || aggregation === "simple" ? tokens.map((t) => [t]) : joined(tokens);
  const scored = words.map((word) => scoreWord(word, labels, aggregation));
  const withText = (entity: Scored): Entity => ({ ...entity, text: text.slice(entity.start, entity.end) });
  if (aggregation === "none") return scored.map(withText);
  const groups: Scored[][] = [];
  for (const word of scored) {
    const last = groups.at(-1)?.at(-1);
    const goesOn = last !== undefined && kindOf(last.label) === kindOf(word.label) && !word.label.startsWith("B-");
    if (goesOn) groups.at(-1)?.push(word);
    else groups.push([word]);
  }
  return groups.map((group) => {
    const [first, last] = [group[0] as Scored, group.at(-1) as Scored];
    const score = group.reduce((sum, word) => sum + word.score, 0) / group.length;
    return withText({ label: kindOf(first.label), score, start: first.start, end: last.end });
  });
}

/** Tokens by the words that they are of. */
function joined(tokens: readonly LabelledToken[]): LabelledToken[][] {
  const words: LabelledToken[][] = [];
  for (const token of tokens) {
    if (token.joins && words.length > 0) words.at(-1)?.push(token);
    else words.push([token]);
  }
  return words;
}

function scoreWord(word: readonly LabelledToken[], labels: readonly string[], aggregation: LabelAggregation): Scored {
  const [first, last] = [word[0] as LabelledToken, word.at(-1) as LabelledToken];
  let { scores } = first;
  if (aggregation === "average") {
    scores = scores.map((_, label) => word.reduce((sum, t) => sum + (t.scores[label] as number), 0) / word.length);
  }
  if (aggregation === "max") {
    for (const t of word) if (Math.max(...t.scores) > Math.max(...scores)) scores = t.scores;
  }
  const score = Math.max(...scores);
  return { label: labels[scores.indexOf(score)] ?? "", score, start: first.start, end: last.end };
}

function kindOf(label: string): string {
  return label.replace(/^[BI]-/, "");
}
