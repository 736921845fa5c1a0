import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { count, parseConfig, windowsFromHub } from "../hub_config.ts";

const schema = v.object({
  sliding_window: v.optional(v.nullable(count(1 << 24)), 4096),
  layer_types: v.nullish(v.array(v.string())),
});

/** Every layer sees a window, if the config has one (7B v0.1: 4,096). */
export function parseMistral(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig("mistral", schema, fields);
  const config = parseGated("mistral", fields);
  const windows = { window: hub.sliding_window, layerTypes: hub.layer_types };
  return { ...config, windows: windowsFromHub("mistral", config.layers, windows) };
}
