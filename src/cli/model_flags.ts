import { type Command, Option } from "commander";
import { TIERS } from "../gpu/tiers.ts";
import { KV_DTYPES } from "../ops/kv_pool.ts";
import { numberIn } from "./option_types.ts";

/** What `--model` takes where decoders are loaded, which GGUF files hold too. */
export const DECODER_SPECS = "hf:owner/name[@revision], a URL, a folder, or a .gguf file";

/** Adds what names a checkpoint, the adapter beside it, and the type that its matrices are kept in. */
export function addCheckpointFlags(command: Command, specs = "hf:owner/name[@revision], a URL, or a folder"): Command {
  return command
    .option("--model <spec>", specs)
    .option("--revision <name>", "branch, tag or commit of a Hub model")
    .option("--adapter <spec>", "a LoRA adapter in PEFT's format for that model: hf:owner/name, a URL, or a folder")
    .addOption(new Option("--dtype <dtype>", "keep matrices in this type").choices(["f32", "f16", "q8_0", "q4_0"]));
}

/** Adds how large the cache of keys and values is, and its type. */
export function addCacheFlags(command: Command): Command {
  return command
    .option(
      "--cache-tokens <n>",
      "tokens that the cache of keys and values holds, rounded up to pages of 32",
      numberIn({ min: 1, integer: true }),
    )
    .addOption(new Option("--cache-dtype <dtype>", "keep keys and values in this type").choices(KV_DTYPES));
}

/** Adds which GPU is used and how, as every command on the GPU has it. */
export function addGpuFlags(command: Command): Command {
  return command
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--no-tune", "choose kernels by rules, without measuring a few at the first start")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other");
}
