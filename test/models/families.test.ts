import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { readJson } from "../support/assets.ts";
import { type GoldenName, goldenPath } from "../support/goldens.ts";

type Fields = Record<string, unknown>;

const refusals: readonly [GoldenName, Fields, RegExp][] = [
  [
    "qwen2",
    { use_sliding_window: true, sliding_window: null, layer_types: ["sliding_attention", "full_attention"] },
    /^BAD_FILE: qwen2: layer_types has sliding_attention/,
  ],
  ["qwen2", { layer_types: ["full_attention"] }, /^BAD_FILE: qwen2: layer_types must have 2 entries/],
  [
    "qwen3",
    { layer_types: ["chunked_attention", "full_attention"] },
    /^UNSUPPORTED: qwen3: layer type "chunked_attention"/,
  ],
  ["qwen3", { hidden_act: "mish" }, /^UNSUPPORTED: qwen3: activation "mish"/],
  ["mistral", { sliding_window: "wide" }, /^BAD_FILE: mistral: .*sliding_window/],
  ["mistral", { num_key_value_heads: 3 }, /^BAD_FILE: mistral: H must be a multiple of Hkv/],
  ["gpt_neox", { rotary_pct: 0.2 }, /^UNSUPPORTED: gpt_neox: an even number of a head's 16 channels must turn; got 3/],
  ["gpt_neox", { num_attention_heads: 5 }, /^BAD_FILE: gpt_neox: hidden_size must be a multiple/],
  ["opt", { do_layer_norm_before: false }, /^UNSUPPORTED: opt: .*do_layer_norm_before false/],
  ["opt", { word_embed_proj_dim: 32 }, /^UNSUPPORTED: opt: .*word_embed_proj_dim 32/],
  ["opt", { layer_norm_elementwise_affine: false }, /^UNSUPPORTED: opt: .*layer_norm_elementwise_affine/],
  ["opt", { _remove_final_layer_norm: true }, /^UNSUPPORTED: opt: .*_remove_final_layer_norm/],
  [
    "phi3",
    { rope_scaling: { type: "longrope", short_factor: [1], long_factor: [2] } },
    /^BAD_FILE: phi3: .*short_factor with 3 numbers/,
  ],
  ["phi3", { rope_scaling: { type: "su" } }, /^BAD_FILE: phi3: .*short_factor/],
  ["phi3", { rope_parameters: { rope_type: "longrope" } }, /^BAD_FILE: phi3: .*short_factor/],
  ["gemma2", { attn_logit_softcapping: 0 }, /^BAD_FILE: gemma2: .*attn_logit_softcapping/],
  ["gemma2", { hidden_activation: "mish" }, /^UNSUPPORTED: gemma2: activation "mish"/],
  ["gemma3", { use_bidirectional_attention: true }, /^BAD_FILE: gemma3: .*use_bidirectional_attention/],
  ["gemma3", { layer_types: ["full_attention"] }, /^BAD_FILE: gemma3: layer_types must have 2 entries/],
  ["bloom", { n_head: 5 }, /^BAD_FILE: bloom: hidden_size must be a multiple/],
  ["bloom", { apply_residual_connection_post_layernorm: true }, /^UNSUPPORTED: bloom: .*post_layernorm true/],
  ["glm", { partial_rotary_factor: 0.2 }, /^UNSUPPORTED: glm: an even number of a head's 16 channels must turn/],
];

describe("config.json", () => {
  it.each(refusals)("%s with %j is refused", (name, change, message) => {
    const config = readJson<Fields>(join(goldenPath(name), "config.json"));
    expect(() => openDecoder(config)).not.toThrow();
    let error: unknown;
    try {
      openDecoder({ ...config, ...change });
    } catch (thrown) {
      error = thrown;
    }
    expect(isHeedError(error) ? `${error.code}: ${error.message}` : error).toMatch(message);
  });
});
