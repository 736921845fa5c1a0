import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AssetArray, decodeArray, readJson } from "./assets.ts";

/** The encoders of test/fixtures/goldens, made by make_encoder_goldens.py. */
export const ENCODER_GOLDENS = [
  ...(["bert_words", "bert_classes", "bert_labels", "bert_span", "bert_plain", "bert_untied"] as const),
  ...(["roberta_words", "roberta_classes"] as const),
  ...(["distilbert_words", "distilbert_span", "distilbert_classes"] as const),
  ...(["albert_words", "albert_classes"] as const),
] as const;

export type EncoderGoldenName = (typeof ENCODER_GOLDENS)[number];

const ARRAYS = ["hidden", "logits", "startLogits", "endLogits", "pooled"] as const;

/** One sequence with what transformers computes from it; arrays are there where the head gives them. */
export type EncoderGolden = { ids: number[]; typeIds?: number[] } & Partial<
  Record<(typeof ARRAYS)[number], Float64Array>
>;

/** The folder of a golden encoder: config.json, model.safetensors. */
export function encoderGoldenPath(name: EncoderGoldenName): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

/** The expected results of a golden encoder. */
export function readEncoderGolden(name: EncoderGoldenName): EncoderGolden[] {
  const rows = readJson<({ ids: number[]; typeIds?: number[] } & Record<string, AssetArray | undefined>)[]>(
    join(encoderGoldenPath(name), "expected.json"),
  );
  return rows.map(({ ids, typeIds, ...row }) => {
    const arrays = ARRAYS.flatMap((key) => (row[key] ? [[key, decodeArray(row[key])] as const] : []));
    return { ids, ...(typeIds ? { typeIds } : {}), ...Object.fromEntries(arrays) };
  });
}
