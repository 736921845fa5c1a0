import type { Value } from "./op.ts";

/** Tokens of a page of the KV cache. */
export const PAGE_TOKENS = 32;

/** Channels that share a scale in a pool in q8_0, and the words of such a block: the scale (f16), then 32 signed bytes. */
export const KV_BLOCK = 32;
const KV_BLOCK_WORDS = 9;

/** How a pool of keys and values may store a channel. */
export const KV_DTYPES = ["f32", "f16", "q8_0"] as const;
export type KvDType = (typeof KV_DTYPES)[number];

/** True for one of {@link KV_DTYPES}. */
export function isKvDType(dtype: string): dtype is KvDType {
  return (KV_DTYPES as readonly string[]).includes(dtype);
}

/** The tensor of a pool of so many pages. Blocks of q8_0 are words; `headDim` is a multiple of 32 there. */
export function poolTensor(
  dtype: KvDType,
  { pages, kvHeads, headDim }: { readonly pages: number; readonly kvHeads: number; readonly headDim: number },
): { readonly shape: number[]; readonly dtype: "f32" | "f16" | "u32" } {
  const page = [pages, 2, kvHeads, PAGE_TOKENS];
  if (dtype !== "q8_0") return { shape: [...page, headDim], dtype };
  return { shape: [...page, (headDim / KV_BLOCK) * KV_BLOCK_WORDS], dtype: "u32" };
}

/** True if `kv` is a pool `[pages, 2, kvHeads, 32, headDim]` f32 or f16, or `[pages, 2, kvHeads, 32, 9 · headDim / 32]` u32: q8_0. */
export function isPool(kv: Value | undefined, kvHeads: number, headDim: number): boolean {
  const [, two, heads, tokens, stored] = kv?.shape ?? [];
  if (kv?.shape.length !== 5 || two !== 2 || heads !== kvHeads || tokens !== PAGE_TOKENS) return false;
  if (kv.dtype === "u32") return headDim % KV_BLOCK === 0 && stored === (headDim / KV_BLOCK) * KV_BLOCK_WORDS;
  return (kv.dtype === "f32" || kv.dtype === "f16") && stored === headDim;
}
