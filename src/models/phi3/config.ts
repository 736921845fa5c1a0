import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { count, parseConfig, windowsFromHub } from "../hub_config.ts";

const rope = v.nullish(v.record(v.string(), v.unknown()));
const schema = v.object({ sliding_window: v.nullish(count(1 << 24)), rope_scaling: rope, rope_parameters: rope });

/** Early configs of these models say "su" and "yarn" where they mean LongRoPE. */
const LONG = ["longrope", "su", "yarn"];

/** Every layer may see a window; the 128k models turn otherwise in long texts (LongRoPE). */
export function parsePhi3(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig("phi3", schema, fields);
  const config = parseGated("phi3", {
    ...{ rms_norm_eps: 1e-5, ...fields },
    ...{ rope_scaling: named(hub.rope_scaling), rope_parameters: named(hub.rope_parameters) },
  });
  return { ...config, windows: windowsFromHub("phi3", config.layers, { window: hub.sliding_window }) };
}

function named(rope: Readonly<Record<string, unknown>> | null | undefined) {
  const type = rope?.["rope_type"] ?? rope?.["type"];
  return LONG.includes(String(type)) ? { ...rope, rope_type: "longrope" } : rope;
}
