import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { count, parseConfig, windowsFromHub } from "../hub_config.ts";

const rope = v.nullish(v.looseObject({ type: v.optional(v.unknown()), rope_type: v.optional(v.unknown()) }));
const schema = v.object({ sliding_window: v.nullish(count(1 << 24)), rope_scaling: rope, rope_parameters: rope });

/** Every layer may see a window; LongRoPE, by which the 128k models turn differently in long texts, is refused. */
export function parsePhi3(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig("phi3", schema, fields);
  const { rope_type, type } = hub.rope_parameters ?? hub.rope_scaling ?? {};
  const scaling = rope_type ?? type ?? "default";
  // Early configs of these models say "su" and "yarn" where they mean LongRoPE.
  if (["longrope", "su", "yarn"].includes(String(scaling))) {
    throw new HeedError(
      "UNSUPPORTED",
      `phi3: LongRoPE is not supported; got rope type "${String(scaling)}" in config.json. Take a model of the short context, such as the 4k one.`,
    );
  }
  const config = parseGated("phi3", { rms_norm_eps: 1e-5, ...fields });
  return { ...config, windows: windowsFromHub("phi3", config.layers, { window: hub.sliding_window }) };
}
