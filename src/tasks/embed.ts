import { HeedError } from "../core/errors.ts";
import type { EncoderCallOptions } from "./encoder_runtime.ts";
import { type EncoderContext, type EncoderInput, encodeInput } from "./encoder_text.ts";

/** How {@link EncoderModel.embed} works. */
export interface EmbedOptions extends EncoderCallOptions {
  /** Cut texts past the checkpoint's `max_seq_length`, as sentence-transformers does; default true, else throws `LIMIT`. */
  readonly truncate?: boolean;
  /** Name of a prompt of config_sentence_transformers.json to put before each text; default the checkpoint's own, if any. */
  readonly prompt?: string;
}

/** The vector of a text. */
export interface Embedding {
  readonly vector: Float32Array;
  /** Tokens that were read. */
  readonly tokens: number;
  /** Some of the text was left out. */
  readonly truncated: boolean;
}

/** Vectors of texts, as the checkpoint's pooling makes them. */
export async function embedAll(
  context: EncoderContext,
  inputs: readonly EncoderInput[],
  { truncate = true, prompt, ...options }: EmbedOptions,
): Promise<Embedding[]> {
  const { runtime } = context;
  const { sentence } = runtime;
  const name = prompt ?? sentence.defaultPrompt;
  const before = name === undefined ? "" : sentence.prompts[name];
  if (before === undefined) {
    const known = Object.keys(sentence.prompts).join(", ") || "none";
    throw new HeedError("USAGE", `embed: the checkpoint has no prompt "${name}"; it has ${known}.`);
  }
  const encoded = inputs.map((input) => {
    const prepared = prepare(input, (text) => before + (sentence.lowerCase ? text.toLowerCase() : text));
    return encodeInput("embed", context, prepared, { truncate, maxTokens: sentence.maxTokens });
  });
  const vectors = await runtime.run("embed", encoded, "embedding", options);
  return vectors.map((vector, i) => {
    const { ids = [], truncated = false } = encoded[i] ?? {};
    return { vector, tokens: ids.length, truncated };
  });
}

function prepare(input: EncoderInput, change: (text: string) => string): EncoderInput {
  if (typeof input === "string") return change(input);
  return "text" in input ? { ...input, text: change(input.text) } : input;
}

/** Cosine of the angle between two vectors; 0 where one of them is all zeros. */
export function cosineSimilarity(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}
