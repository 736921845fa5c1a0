/** Rows of a prefill plan: few sizes, so that few plans exist. */
const PREFILL_ROWS = [8, 32, 128, 512] as const;

/**
 * What a chunk costs beside its rows, counted in rows: reading the weights. On GPUs some 64 rows come with the weights
 * for nothing; lavapipe takes 185 ms for 8 rows of GPT-2 124M, 390 for 32 and 1,840 for 128, so 8 are nearly twice 4.
 */
const CHUNK_ROWS = { gpu: 64, software: 8 };

/** Rows of the plan for the next chunk of `left` tokens, so that chunks, empty rows counted, cost the least in all. */
export function chunkRows(left: number, software: boolean): number {
  return cheapest(left, software ? CHUNK_ROWS.software : CHUNK_ROWS.gpu).rows;
}

/** The choice is between the smallest chunk that holds all, and the largest that is filled, with the rest behind it. */
function cheapest(left: number, chunkCost: number): { readonly rows: number; readonly cost: number } {
  const filled = PREFILL_ROWS.findLast((n) => n <= left);
  const holding = PREFILL_ROWS.find((n) => n >= left);
  const whole = holding === undefined ? undefined : { rows: holding, cost: holding + chunkCost };
  if (filled === undefined || filled === left) return whole ?? { rows: PREFILL_ROWS[0], cost: 0 };
  // Long prompts: full chunks first, whatever the rest costs.
  if (whole === undefined) return { rows: filled, cost: Number.POSITIVE_INFINITY };
  const parts = { rows: filled, cost: filled + chunkCost + cheapest(left - filled, chunkCost).cost };
  return parts.cost < whole.cost ? parts : whole;
}
