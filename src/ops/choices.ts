import type { GpuFacts } from "../gpu/device.ts";

/**
 * The buckets in which kernels are chosen by measurement (`src/program/tune.ts`); `facts.choices` holds what was found. What is
 * not there is chosen by rules.
 */
export const BUCKETS = {
  prefill: (dim: number) => `attention prefill, D ${dim <= 64 ? "to 64" : "to 128"}`,
  splits: "attention decode, splits",
  matmul: (form: "nt" | "nn" | "tn", size: "small" | "large") => `matmul ${form}, ${size}`,
  linear: (rows: number) => `linear of ${rows} rows`,
} as const;

/** Most rows times columns of a small product. */
const SMALL_PRODUCT = 256 * 256;

/** The prefill kernel that was measured best for heads of this size. */
export function chosenPrefill({ choices }: GpuFacts, dim: number): "tiled" | "lanes" | undefined {
  if (dim > 128) return undefined;
  const chosen = choices?.[BUCKETS.prefill(dim)];
  return chosen === "tiled" || chosen === "lanes" ? chosen : undefined;
}

/** The most splits that were measured best for single rows over many keys. */
export function chosenSplits({ choices }: GpuFacts): number | undefined {
  const chosen = Number(choices?.[BUCKETS.splits]);
  return Number.isInteger(chosen) && chosen >= 1 && chosen <= 64 ? chosen : undefined;
}

/** The name of the kernel that was measured best for such a product. */
export function chosenMatmul(
  { choices }: GpuFacts,
  form: "nt" | "nn" | "tn",
  { rows, columns }: { readonly rows: number; readonly columns: number },
): string | undefined {
  return choices?.[BUCKETS.matmul(form, rows * columns <= SMALL_PRODUCT ? "small" : "large")];
}

/** Row counts at which few rows were measured. */
export const FEW_ROWS: readonly number[] = [2, 4, 8];

/** True if `matvec` was measured best for so many rows, false if another was; undefined where nothing is known. */
export function chosenMatvec({ choices }: GpuFacts, rows: number): boolean | undefined {
  const at = FEW_ROWS.find((n) => rows <= n);
  const chosen = at === undefined || rows < 2 ? undefined : choices?.[BUCKETS.linear(at)];
  return chosen === undefined ? undefined : chosen === "matvec";
}
