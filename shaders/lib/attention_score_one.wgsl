// attention_score.wgsl for kernels that have a binding left for one tensor only: an additive bias is bound as a mask of mode 2.

@group(0) @binding(8) var<storage, read> mask: array<u32>;

// The bits of −1e30: as words, larger negative numbers and −∞ come after it.
const MASKED_WORD: u32 = 0xf149f2cau;

fn modified_score(batch: u32, head: u32, query: u32, key: u32, position: u32, x: f32) -> f32 {
  let mask_at = params.mask_offset + batch * params.mask_batch + head * params.mask_head + query * params.mask_query
    + key * params.mask_key;
  let is_added = params.mask_mode == 2u;
  let word = select(1u, mask[mask_at], params.mask_mode != 0u);
  let distance = f32(i32(key) - i32(position));
  let score = fma(head_slope(head), distance, x) + bitcast<f32>(select(0u, word, is_added));
  return select(score, MASKED, select(word == 0u, word >= MASKED_WORD, is_added));
}
