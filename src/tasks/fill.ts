import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { softmax } from "./classify.ts";
import type { EncoderCallOptions } from "./encoder_runtime.ts";
import { type EncoderContext, needHead, needTokenizer, segmentsFor } from "./encoder_text.ts";

/** How {@link EncoderModel.fill} works. */
export interface FillOptions extends EncoderCallOptions {
  /** Words for each mask; default 5. */
  readonly top?: number;
}

/** A word for a mask. */
export interface Filler {
  readonly id: number;
  /** As text, without the blank before it. */
  readonly text: string;
  readonly score: number;
}

/** What stands behind the masks of a text. */
export interface Filled {
  /** The text with the likeliest word in place of each mask. */
  readonly text: string;
  /** Words for each mask, by falling probability. */
  readonly masks: readonly (readonly Filler[])[];
}

/** Fills the masks of each text. */
export async function fillAll(
  context: EncoderContext,
  texts: readonly string[],
  { top = 5, ...options }: FillOptions,
): Promise<Filled[]> {
  const { runtime } = context;
  needHead("fill", "words", runtime.encoder);
  const tokenizer = needTokenizer("fill", context);
  const { vocabSize, contextLength } = runtime.encoder.facts;
  if (!Number.isInteger(top) || top < 1 || top > vocabSize) {
    throw new HeedError("USAGE", `fill: top must be from 1 to ${vocabSize}; got ${top}.`);
  }
  const { maskId } = tokenizer;
  const mask = maskId === undefined ? undefined : tokenizer.idToToken(maskId);
  if (maskId === undefined || mask === undefined) {
    throw new HeedError(
      "BAD_FILE",
      "fill: the tokenizer must name a mask token; it has none. Check tokenizer_config.json.",
    );
  }
  const sequences = texts.map((text) => {
    const { ids, typeIds } = tokenizer.framePair(encodeMasked(tokenizer, text, { mask, maskId }));
    if (ids.length > contextLength) {
      throw new HeedError(
        "LIMIT",
        `fill: the model takes ${contextLength} tokens; got ${ids.length}. Shorten the text.`,
      );
    }
    return {
      ids,
      typeIds: segmentsFor(runtime.encoder, typeIds),
      at: ids.flatMap((id, t) => (id === maskId ? [t] : [])),
    };
  });
  const hidden = await runtime.run("fill", sequences, "hidden", options);
  const { width } = runtime.encoder.facts;
  const rows = sequences.flatMap(({ at }, i) =>
    at.map((t) => (hidden[i] as Float32Array).slice(t * width, (t + 1) * width)),
  );
  const logits = await runtime.words("fill", rows, options);
  let next = 0;
  return sequences.map(({ at }, i) => {
    const masks = at.map(() => fillersOf(tokenizer, logits[next++] as Float32Array, top));
    let seen = 0;
    const parts = (texts[i] as string).split(mask);
    const text = parts.reduce((done, part) => done + (masks[seen++]?.[0]?.text ?? mask) + part);
    return { text, masks };
  });
}

/** Ids of a text in which masks alone mean more than their letters. Throws `USAGE` for a text without a mask. */
function encodeMasked(
  tokenizer: Tokenizer,
  text: string,
  { mask, maskId }: { mask: string; maskId: number },
): number[] {
  if (!text.includes(mask)) {
    throw new HeedError("USAGE", `fill: the text must have a mask, ${mask}; got ${JSON.stringify(text.slice(0, 60))}.`);
  }
  const ids = tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: true });
  if (ids.every((id) => id === maskId || !tokenizer.isSpecial(id) || id === tokenizer.unkId)) return ids;
  // Another special token is spelt in the text: the parts between masks are taken by themselves.
  const parts = text.split(mask).map((part) => tokenizer.encode(part, { addSpecialTokens: false }));
  return parts.flatMap((part, i) => (i === 0 ? part : [maskId, ...part]));
}

function fillersOf(tokenizer: Tokenizer, logits: Float32Array, top: number): Filler[] {
  const ids = Array.from(logits, (_, id) => id).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  const scores = softmax(logits);
  return ids.slice(0, top).map((id) => {
    const text = tokenizer.decode([id], { skipSpecial: false }).trim();
    return { id, text, score: scores[id] as number };
  });
}
