// The gradient of out and what each row of it needs, for the backward kernels; goes with attention_heads.wgsl.
//
// Sizes, strides and offsets are in vec4s. After the table of attention_table.wgsl its buffer holds two words for each row of
// [B, H, T]: lse · log₂ e and dots = rowsum(dout ∘ out).

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
  mask_mode: u32,
  mask_offset: u32,
  mask_batch: u32,
  mask_head: u32,
  mask_query: u32,
  mask_key: u32,
  factor: f32,
  softcap: f32,
  scale: f32,
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
  dout_offset: u32,
  dout_batch: u32,
  dout_head: u32,
  dout_row: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
  dv_batch: u32,
  dv_head: u32,
  dv_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read> dout: array<vec4<f32>>;

@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

fn out_at(tile: Tile, head: u32, row: u32) -> u32 {
  return tile.sequence * params.out_batch + head * params.out_head + (tile.first + row) * params.out_row;
}

fn dout_at(tile: Tile, head: u32, row: u32) -> u32 {
  return params.dout_offset + tile.sequence * params.dout_batch + head * params.dout_head
    + (tile.first + row) * params.dout_row;
}

// (lse · log₂ e, dots) of a row of [B, H, T].
fn row_stats(row: u32) -> vec2<f32> {
  let at = 3u * params.batches + 2u * params.heads + 2u * row;
  return vec2<f32>(bitcast<f32>(table[at]), bitcast<f32>(table[at + 1u]));
}
