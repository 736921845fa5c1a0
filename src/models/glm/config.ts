import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { parseConfig } from "../hub_config.ts";

const schema = v.object({
  model_type: v.picklist(["glm", "glm4"]),
  attention_bias: v.optional(v.boolean(), true),
});

/** GLM: q, k and v have biases, half of each head's channels turn, in pairs of neighbours. */
export interface GlmConfig extends GatedConfig {
  /** `glm4`: what attention and feed-forward add is normed too. */
  readonly postNorms: boolean;
}

/** Fields that configs leave out where they are what GLM-4 9B has. */
const DEFAULTS = { head_dim: 128, num_key_value_heads: 2, partial_rotary_factor: 0.5, rms_norm_eps: 0.00000015625 };

export function parseGlm(fields: Readonly<Record<string, unknown>>): GlmConfig {
  const hub = parseConfig("glm", schema, fields);
  const config = parseGated("glm", { ...DEFAULTS, ...fields });
  return {
    ...config,
    rotary: { ...config.rotary, interleaved: true },
    biases: { qkv: hub.attention_bias, out: false, feedForward: false },
    postNorms: hub.model_type === "glm4",
  };
}
