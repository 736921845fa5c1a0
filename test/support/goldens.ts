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
  "phi3_longrope",
  "gemma2",
  "gemma3",
  "bloom",
  "glm",
  "glm4",
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
  /** The 4 best of a search with 4 beams for 8 tokens, best first; empty with dynamic scaling. */
  beams: { tokens: number[]; score: number }[];
  /** In some cases: the first `length` tokens see each other both ways. */
  prefix?: { length: number; logits: Float64Array; greedy: number[] };
}

/** The folder of a golden checkpoint: config.json, config_rope_parameters.json (rotary families), model.safetensors. */
export function goldenPath(name: GoldenName): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

/** The expected results of a golden checkpoint; the first prompt has 5 tokens, the second 40. */
export function readGolden(name: GoldenName): GoldenCase[] {
  type Written<T> = Omit<T, "logits"> & { logits: AssetArray };
  const rows = readJson<(Written<Omit<GoldenCase, "prefix">> & { prefix?: Written<Required<GoldenCase>["prefix"]> })[]>(
    join(goldenPath(name), "expected.json"),
  );
  return rows.map((row) => ({
    ...row,
    logits: decodeArray(row.logits),
    prefix: row.prefix && { ...row.prefix, logits: decodeArray(row.prefix.logits) },
  }));
}
