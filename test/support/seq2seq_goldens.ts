import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AssetArray, decodeArray, readJson } from "./assets.ts";

/** The encoder–decoders of test/fixtures/goldens. */
export const SEQ2SEQ_GOLDENS = ["transformer", "marian", "marian_separate", "bart", "mbart", "t5", "t5_gated"] as const;

export type Seq2SeqGolden = (typeof SEQ2SEQ_GOLDENS)[number];

/** What the reference makes of one source. */
export interface Seq2SeqCase {
  ids: number[];
  /** What the decoder reads, `[T]`. */
  decoderIds: number[];
  /** `[T, V]` */
  logits: Float64Array;
  /** Weights of cross-attention `[L, H, T, S]`. */
  cross: Float64Array;
  /** The decoder's ids after its first, by the settings of generation_config.json. */
  greedy: number[];
  /** With 4 beams. */
  beams: number[];
}

/** The folder of a golden encoder–decoder. */
export function seq2SeqGoldenPath(name: Seq2SeqGolden): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

/** The expected results: the first source has 5 tokens, the second 37, past a page of the cache. */
export function readSeq2SeqGolden(name: Seq2SeqGolden): Seq2SeqCase[] {
  type Written = Omit<Seq2SeqCase, "logits" | "cross"> & { logits: AssetArray; cross: AssetArray };
  const { cases } = readJson<{ cases: Written[] }>(join(seq2SeqGoldenPath(name), "expected.json"));
  return cases.map((c) => ({ ...c, logits: decodeArray(c.logits), cross: decodeArray(c.cross) }));
}
