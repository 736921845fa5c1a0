import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AssetArray, decodeArray, readJson } from "./assets.ts";

/** The cases of test/fixtures/goldens: small random checkpoints with what `transformers` computes from them. */
export const GOLDEN_NAMES = [
  "llama_gqa",
  "llama_bias",
  "llama_tied_llama3",
  "llama_linear",
  "llama_dynamic",
  "llama_yarn",
  "gpt2",
  "qwen2",
  "mistral",
  "qwen3",
  "gpt_neox",
  "gpt_neox_sequential",
  "opt",
  "phi3",
] as const;

export type GoldenName = (typeof GOLDEN_NAMES)[number];

/** One prompt of a golden checkpoint. */
export interface GoldenCase {
  /** `[T]` */
  ids: number[];
  /** `[T, V]`, f32 */
  logits: Float64Array;
  /** 16 tokens, with the cache. Differs from `greedyRecomputed` where dynamic scaling has changed the frequencies since. */
  greedy: number[];
  /** 16 tokens, each from a full pass. */
  greedyRecomputed: number[];
}

/** The folder of a golden checkpoint: config.json, config_rope_parameters.json (rotary families), model.safetensors. */
export function goldenPath(name: GoldenName): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

/** The expected results of a golden checkpoint; the first prompt has 5 tokens, the second 40. */
export function readGolden(name: GoldenName): GoldenCase[] {
  const rows = readJson<(Omit<GoldenCase, "logits"> & { logits: AssetArray })[]>(
    join(goldenPath(name), "expected.json"),
  );
  return rows.map((row) => ({ ...row, logits: decodeArray(row.logits) }));
}
