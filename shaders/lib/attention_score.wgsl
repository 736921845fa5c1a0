// Scores with ALiBi, an additive bias and a mask.
//
// bias, mask: any broadcastable [B|1, H|1, T|1, S|1] by strides (0 where it repeats), bound as words so that −∞ and every
//   value ≤ −1e30 is found by its bits: WGSL may assume that there are no infinities. mask_mode 0: none; 1: boolean, not 0
//   where a key may be attended to; 2: additive. What is absent is bound to some other buffer and not used.
// Source: Press et al., "Train Short, Test Long" (2022), §3.

@group(0) @binding(7) var<storage, read> bias: array<u32>;
@group(0) @binding(8) var<storage, read> mask: array<u32>;

// The bits of −1e30: as words, larger negative numbers and −∞ come after it.
const MASKED_WORD: u32 = 0xf149f2cau;

fn modified_score(batch: u32, head: u32, query: u32, key: u32, position: u32, x: f32) -> f32 {
  let bias_at = params.bias_offset + batch * params.bias_batch + head * params.bias_head + query * params.bias_query
    + key * params.bias_key;
  let mask_at = params.mask_offset + batch * params.mask_batch + head * params.mask_head + query * params.mask_query
    + key * params.mask_key;
  let is_added = params.mask_mode == 2u;
  let added = select(0u, bias[bias_at], params.bias_mode != 0u);
  let word = select(1u, mask[mask_at], params.mask_mode != 0u);
  let distance = f32(i32(key) - i32(position));
  let score = fma(head_slope(head), distance, x) + bitcast<f32>(added) + bitcast<f32>(select(0u, word, is_added));
  let is_masked = (added >= MASKED_WORD) | select(word == 0u, word >= MASKED_WORD, is_added);
  return select(score, MASKED, is_masked);
}
