import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { count, parseConfig, windowsFromHub } from "../hub_config.ts";

const schema = v.object({
  // 128 where a config leaves it out, not the width by the heads.
  head_dim: v.optional(v.number(), 128),
  attention_bias: v.optional(v.boolean(), false),
  use_sliding_window: v.optional(v.boolean(), false),
  sliding_window: v.optional(v.nullable(count(1 << 24)), 4096),
  max_window_layers: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 28),
  layer_types: v.nullish(v.array(v.string())),
});

/** Heads of their own size, each normed; the layers from `max_window_layers` on may see a window. */
export function parseQwen3(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig("qwen3", schema, fields);
  const config = parseGated("qwen3", { ...fields, head_dim: hub.head_dim });
  return {
    ...config,
    headNorms: true,
    biases: { qkv: hub.attention_bias, out: hub.attention_bias, feedForward: false },
    windows: windowsFromHub("qwen3", config.layers, {
      window: hub.use_sliding_window ? hub.sliding_window : undefined,
      layerTypes: hub.layer_types,
      first: hub.max_window_layers,
    }),
  };
}
