import { join } from "node:path";
import { expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { openEncoderDecoder } from "../../src/models/registry.ts";
import { readJson } from "../support/assets.ts";
import { type Seq2SeqGolden, seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";

type Fields = Record<string, unknown>;

const refusals: readonly [Seq2SeqGolden, Fields, RegExp][] = [
  ["transformer", { scale_embedding: false }, /^BAD_FILE: transformer: .*scale_embedding/],
  ["transformer", { decoder_start_token_id: null }, /^BAD_FILE: transformer: decoder_start_token_id must be/],
  ["transformer", { decoder_attention_heads: 5 }, /^BAD_FILE: transformer: d_model must be a multiple of the heads/],
  ["marian", { normalize_before: true }, /^UNSUPPORTED: marian: normalize_before true/],
  ["marian", { tie_word_embeddings: false }, /^UNSUPPORTED: marian: .*tie_word_embeddings false/],
  ["bart", { normalize_embedding: false }, /^UNSUPPORTED: bart: normalize_embedding false/],
  ["bart", { add_final_layer_norm: true }, /^UNSUPPORTED: bart: add_final_layer_norm true/],
  ["mbart", { normalize_before: false }, /^UNSUPPORTED: mbart: normalize_before false/],
  ["bart", { activation_function: "mish" }, /^UNSUPPORTED: bart: activation "mish"/],
  ["t5", { feed_forward_proj: "gated" }, /^BAD_FILE: t5: feed_forward_proj must be/],
  ["t5", { feed_forward_proj: "gated-mish" }, /^UNSUPPORTED: t5: activation "mish"/],
  ["t5", { decoder_start_token_id: 61 }, /^BAD_FILE: t5: decoder_start_token_id must be below 61/],
  ["t5", { d_kv: 0 }, /^BAD_FILE: t5: .*d_kv/],
];

it.each(refusals)("%s with %j is refused", (name, change, message) => {
  const config = readJson<Fields>(join(seq2SeqGoldenPath(name), "config.json"));
  expect(() => openEncoderDecoder(config)).not.toThrow();
  let error: unknown;
  try {
    openEncoderDecoder({ ...config, ...change });
  } catch (thrown) {
    error = thrown;
  }
  expect(isHeedError(error) ? `${error.code}: ${error.message}` : error).toMatch(message);
});

it("says what a model of another kind is for", () => {
  expect(() => openEncoderDecoder(readJson(join(seq2SeqGoldenPath("marian"), "../gpt2/config.json")))).toThrow(
    /an encoder–decoder such as Marian or T5 is needed here; gpt2 is a decoder/,
  );
});
