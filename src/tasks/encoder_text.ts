import { HeedError } from "../core/errors.ts";
import type { Encoder } from "../models/encoder_family.ts";
import type { HeadKind } from "../models/encoder_heads.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { EncoderRuntime, EncoderSequence } from "./encoder_runtime.ts";
import { checkTokenIds } from "./token_ids.ts";

/** What the tasks of an encoder work with. */
export interface EncoderContext {
  readonly runtime: EncoderRuntime;
  readonly tokenizer: Tokenizer | undefined;
}

/** A text, two texts together, or token ids with everything that belongs around them. */
export type EncoderInput =
  | string
  | { readonly text: string; readonly pair?: string }
  | { readonly ids: readonly number[]; readonly typeIds?: readonly number[] | undefined };

/** How a long text is dealt with. */
export interface TruncateOptions {
  /** Leave out what is past the model's context, instead of throwing `LIMIT`. */
  readonly truncate?: boolean;
}

/** An input as ids, and whether some of it was left out. */
export interface EncodedInput extends EncoderSequence {
  readonly truncated: boolean;
}

const TASKS: Readonly<Record<HeadKind, { readonly verb: string; readonly what: string; readonly end: string }>> = {
  words: { verb: "fill", what: "masked words", end: "ForMaskedLM" },
  classes: { verb: "classify", what: "classes", end: "ForSequenceClassification" },
  labels: { verb: "label", what: "labels of tokens", end: "ForTokenClassification" },
  span: { verb: "answer", what: "answers", end: "ForQuestionAnswering" },
};

/** Throws `UNSUPPORTED` unless the checkpoint has a head of that kind; says which it has and what works with it. */
export function needHead(op: string, kind: HeadKind, { head, family }: Encoder): void {
  if (head?.kind === kind) return;
  const has = head
    ? `this ${family} checkpoint (${head.architecture}) has one for ${TASKS[head.kind].what}, so ${TASKS[head.kind].verb} and embed work`
    : `this ${family} checkpoint has none, so embed alone works`;
  const { what, end } = TASKS[kind];
  throw new HeedError(
    "UNSUPPORTED",
    `${op}: a head for ${what} is needed; ${has}. Take a checkpoint whose architecture ends in ${end}.`,
  );
}

/** The tokenizer. Throws `BAD_FILE` where the checkpoint has none. */
export function needTokenizer(op: string, { tokenizer }: EncoderContext): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new HeedError(
    "BAD_FILE",
    `${op}: text needs a tokenizer, which the checkpoint lacks. Add its tokenizer.json or vocab file.`,
  );
}

/** Segments for the models that know more than one. */
export function segmentsFor({ facts }: Encoder, typeIds: readonly number[]): readonly number[] | undefined {
  return facts.segments > 1 ? typeIds : undefined;
}

/** Ids of an input with what belongs around them, `maxTokens` at most. Throws `LIMIT` for more unless `truncate`. */
export function encodeInput(
  op: string,
  context: EncoderContext,
  input: EncoderInput,
  {
    truncate = false,
    maxTokens = context.runtime.encoder.facts.contextLength,
  }: TruncateOptions & { maxTokens?: number },
): EncodedInput {
  const { encoder } = context.runtime;
  if (typeof input === "object" && "ids" in input) {
    if (!truncate || input.ids.length <= maxTokens) return { ...input, truncated: false };
    return { ids: input.ids.slice(0, maxTokens), typeIds: input.typeIds?.slice(0, maxTokens), truncated: true };
  }
  const { text, pair } = typeof input === "string" ? { text: input, pair: undefined } : input;
  if (typeof text !== "string") {
    throw new HeedError("USAGE", `${op}: an input is a text, {text, pair} or {ids}; got ${typeof text}.`);
  }
  const tokenizer = needTokenizer(op, context);
  const whole = pair === undefined ? undefined : tokenizer.encode(pair, { addSpecialTokens: false });
  const parts = [tokenizer.encode(text, { addSpecialTokens: false }), ...(whole ? [whole] : [])];
  const frame = (all: readonly number[][]) => tokenizer.framePair(all[0] ?? [], all[1]);
  const surplus = frame(parts).ids.length - maxTokens;
  if (surplus > 0 && !truncate) {
    throw new HeedError(
      "LIMIT",
      `${op}: the model takes ${maxTokens} tokens; got ${maxTokens + surplus}. Shorten the text, or let it be cut with truncate.`,
    );
  }
  const { ids, typeIds } = frame(surplus > 0 ? shortened(parts, surplus) : parts);
  checkTokenIds(op, ids, { vocabSize: encoder.facts.vocabSize, text: true });
  return { ids, typeIds: segmentsFor(encoder, typeIds), truncated: surplus > 0 };
}

/** Leaves `surplus` ids out, each from the end of what is longest then. */
function shortened(parts: readonly number[][], surplus: number): number[][] {
  const lengths = parts.map((part) => part.length);
  for (let i = 0; i < surplus; i++) {
    const longest = lengths.indexOf(Math.max(...lengths));
    lengths[longest] = Math.max(0, (lengths[longest] ?? 0) - 1);
  }
  return parts.map((part, i) => part.slice(0, lengths[i]));
}

/** A stretch of a long text with what belongs around it. */
export interface Window extends EncoderSequence {
  /** Index in `ids` of the stretch's first token. */
  readonly start: number;
  /** The stretch: tokens [from, to) of the text. */
  readonly from: number;
  readonly to: number;
}

/** How a long text is cut. */
export interface WindowOptions {
  /** Tokens of a window, those around it and those of the question included; at most the model's context. */
  readonly maxTokens?: number | undefined;
  /** Tokens that a window has in common with the next. */
  readonly stride?: number | undefined;
}

/** Cuts `ids` into overlapping windows, each behind `before` (a question) if that is given. Throws `USAGE` or `LIMIT`. */
export function windowsOf(
  op: string,
  context: EncoderContext,
  texts: { readonly ids: readonly number[]; readonly before?: readonly number[] },
  options: WindowOptions,
): Window[] {
  const { ids, before } = texts;
  const { encoder } = context.runtime;
  const tokenizer = needTokenizer(op, context);
  const { contextLength } = encoder.facts;
  const { maxTokens = contextLength } = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 1 || maxTokens > contextLength) {
    throw new HeedError(
      "USAGE",
      `${op}: maxTokens must be from 1 to ${contextLength}, the model's context; got ${maxTokens}.`,
    );
  }
  const frame = (part: readonly number[]) => (before ? tokenizer.framePair(before, part) : tokenizer.framePair(part));
  const room = maxTokens - frame([]).ids.length;
  if (room < 1) {
    throw new HeedError(
      "LIMIT",
      `${op}: ${before?.length ?? 0} tokens of the question leave no room for the text in ${maxTokens}. Shorten it.`,
    );
  }
  const stride = Math.min(options.stride ?? Math.floor(room / 3), room - 1);
  if (!Number.isInteger(stride) || stride < 0) {
    throw new HeedError("USAGE", `${op}: stride must be a whole number of tokens from 0; got ${stride}.`);
  }
  const windows: Window[] = [];
  for (let from = 0; from === 0 || from + stride < ids.length; from += room - stride) {
    const part = ids.slice(from, from + room);
    const { ids: framed, typeIds, starts } = frame(part);
    const start = before ? starts[1] : starts[0];
    windows.push({ ids: framed, typeIds: segmentsFor(encoder, typeIds), start, from, to: from + part.length });
  }
  return windows;
}
