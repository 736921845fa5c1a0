import { HeedError } from "../core/errors.ts";

/** Throws for ids that a model does not know: `BAD_FILE` for those that its tokenizer made of `text`, else `USAGE`. */
export function checkTokenIds(
  op: string,
  ids: readonly number[],
  { vocabSize, text }: { readonly vocabSize: number; readonly text?: boolean | undefined },
): void {
  const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (bad === undefined) return;
  if (text) {
    throw new HeedError(
      "BAD_FILE",
      `${op}: the tokenizer must be the model's own; it made the token ${bad} of the text, and the model has ${vocabSize} tokens (0 to ${vocabSize - 1}). Take tokenizer and weights from one checkpoint.`,
    );
  }
  throw new HeedError(
    "USAGE",
    `${op}: token ids must be whole numbers from 0 to ${vocabSize - 1}; got ${bad}. Check that tokenizer and model belong together.`,
  );
}
