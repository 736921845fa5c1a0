// weights[b, s, i, j] = exp(score − lse) of chosen heads and queries, exactly 0 where masked: rebuilt from what attention saved.
//
// in:  q [B, H, T, D], k [B, Hkv, S, D] by strides, in Element; score = modified_score(softcap(scale · q·k)), lengths, starts and
//      prefixes as attention_score*.wgsl and attention_table*.wgsl say; lse [B, H, T];
//      lists u32: `chosen` heads, then `rows` queries
// out: weights [B, chosen, rows, S] f32
// One workgroup: 64 weights. One invocation: one weight.
// Workgroup memory: 0 bytes.
// Preconditions: heads and queries of the lists are in range; `count` = B · chosen · rows · S.
// Source: Dao, "FlashAttention-2" (2023), §3.1.2 (probabilities rebuilt from the log-sum-exp).

struct Params {
  count: u32,
  chosen: u32,
  rows: u32,
  width: u32,
  group: u32,
  scale: f32,
  softcap: f32,
  batches: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  position: u32,
  prefix: u32,
  length: u32,
  left: u32,
  right: u32,
  ahead: u32,
  bias_mode: u32,
  bias_offset: u32,
  bias_batch: u32,
  bias_head: u32,
  bias_query: u32,
  bias_key: u32,
  mask_mode: u32,
  mask_offset: u32,
  mask_batch: u32,
  mask_head: u32,
  mask_query: u32,
  mask_key: u32,
  q_offset: u32,
  q_batch: u32,
  q_head: u32,
  q_row: u32,
  k_offset: u32,
  k_batch: u32,
  k_head: u32,
  k_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Element>;
@group(0) @binding(2) var<storage, read> k: array<Element>;
@group(0) @binding(3) var<storage, read> lists: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = id.y * groups.x * 64u + id.x;
  if (index >= params.count) {
    return;
  }
  let key = index % params.keys;
  let row = index / params.keys % params.rows;
  let slot = index / params.keys / params.rows % params.chosen;
  let batch = index / params.keys / params.rows / params.chosen;
  let head = lists[slot];
  let query = lists[params.chosen + row];
  let position = sequence_start(batch) + query;
  let q_at = params.q_offset + batch * params.q_batch + head * params.q_head + query * params.q_row;
  let k_at = params.k_offset + batch * params.k_batch + head / params.group * params.k_head + key * params.k_row;
  var product = 0.0;
  for (var d = 0u; d < params.width; d++) {
    let x = unpack_element(q[element_slot(q_at + d)], q_at + d);
    product = fma(x, unpack_element(k[element_slot(k_at + d)], k_at + d), product);
  }
  var score = product * params.scale;
  if (params.softcap > 0.0) {
    // Past ±15 tanh is ±1 in f32, and its exponentials would overflow.
    score = params.softcap * tanh(clamp(score / params.softcap, -15.0, 15.0));
  }
  score = modified_score(batch, head, query, key, position, score);
  let is_kept = mask_keeps(position, key, sequence_keys(batch), sequence_prefix(batch)) & (score > MASKED);
  let total = lse[(batch * params.heads + head) * params.queries + query];
  weights[index] = select(0.0, exp(score - total), is_kept);
}
