// Attention over q, k, v given by strides: [B, H, T, D] and rows [B·T, H·D] (columns of a wider matrix too) are the
// same to the kernel. One of the two addressings; the other is attention_paged.wgsl.
//
// Sizes, strides and offsets are in vec4s: heads of other sizes are copied first (pad_heads.wgsl). `group`: query heads
// that share a key head. Goes with attention_heads.wgsl.

struct Params {
  batches: u32,
  heads: u32,
  group: u32,
  columns: u32,
  value_columns: u32,
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
  splits: u32,
  split_keys: u32,
  factor: f32,
  softcap: f32,
  q_offset: u32,
  q_batch: u32,
  q_head: u32,
  q_row: u32,
  k_offset: u32,
  k_batch: u32,
  k_head: u32,
  k_row: u32,
  v_offset: u32,
  v_batch: u32,
  v_head: u32,
  v_row: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

fn out_at(tile: Tile, head: u32, row: u32) -> u32 {
  return tile.sequence * params.out_batch + head * params.out_head + (tile.first + row) * params.out_row;
}

fn load_out(at: u32, column: u32) -> vec4<f32> {
  return out[at + column];
}

fn store_out(at: u32, column: u32, value: vec4<f32>) {
  out[at + column] = value;
}
