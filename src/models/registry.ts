import { HeedError } from "../core/errors.ts";
import type { Decoder, DecoderFamily } from "./family.ts";
import { gpt2 } from "./gpt2/model.ts";
import { gptNeox } from "./gpt_neox/model.ts";
import { llama } from "./llama/model.ts";
import { mistral } from "./mistral/model.ts";
import { opt } from "./opt/model.ts";
import { phi3 } from "./phi3/model.ts";
import { qwen2 } from "./qwen2/model.ts";
import { qwen3 } from "./qwen3/model.ts";

/** Every family that Heed runs: a new one is a folder, a test and a line here. */
export const FAMILIES: readonly DecoderFamily[] = [gpt2, gptNeox, llama, mistral, opt, phi3, qwen2, qwen3];

/** Opens config.json with the family that its `model_type` names. Throws `UNSUPPORTED` naming the families there are. */
export function openDecoder(config: Readonly<Record<string, unknown>>): Decoder {
  const type = config.model_type;
  const family = FAMILIES.find((f) => typeof type === "string" && f.modelTypes.includes(type));
  if (!family) {
    const known = FAMILIES.flatMap((f) => f.modelTypes).join(", ");
    throw new HeedError(
      "UNSUPPORTED",
      `model: the architecture ${JSON.stringify(type ?? null)} (model_type in config.json) is not supported; Heed runs ${known}.`,
    );
  }
  return family.open(config);
}
