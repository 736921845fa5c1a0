import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { count, parseConfig, windowsFromHub } from "../hub_config.ts";

const schema = v.object({
  use_sliding_window: v.optional(v.boolean(), false),
  sliding_window: v.optional(v.nullable(count(1 << 24)), 4096),
  max_window_layers: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 28),
  layer_types: v.nullish(v.array(v.string())),
});

/** q, k and v have biases, nothing else has; the layers from `max_window_layers` on may see a window. */
export function parseQwen2(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig("qwen2", schema, fields);
  const config = parseGated("qwen2", fields);
  return {
    ...config,
    biases: { qkv: true, out: false, feedForward: false },
    windows: windowsFromHub("qwen2", config.layers, {
      window: hub.use_sliding_window ? hub.sliding_window : undefined,
      layerTypes: hub.layer_types,
      first: hub.max_window_layers,
    }),
  };
}
