// q, k and v given by strides in vec4s, for the forward and the backward kernels; `Params` comes with attention_dense.wgsl or
// attention_gradient.wgsl, lengths and starts with attention_table*.wgsl, `WeightVec4` and `unpack_weight` with weight_*.wgsl.

@group(0) @binding(1) var<storage, read> q: array<WeightVec4>;
@group(0) @binding(2) var<storage, read> k: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> v: array<WeightVec4>;

// Some consecutive queries of one sequence: rows first..first + rows − 1, the first at key position `position`.
struct Tile {
  sequence: u32,
  first: u32,
  rows: u32,
  position: u32,
  keys: u32,
  prefix: u32,
}

fn tile_of(index: u32, batch: u32, size: u32) -> Tile {
  let first = index * size;
  let rows = min(size, params.queries - first);
  return Tile(batch, first, rows, sequence_start(batch) + first, sequence_keys(batch), sequence_prefix(batch));
}

// Query `index` of [B·T] alone.
fn row_tile(index: u32) -> Tile {
  return tile_of(index % params.queries, index / params.queries, 1u);
}

fn q_at(tile: Tile, head: u32, row: u32) -> u32 {
  return params.q_offset + tile.sequence * params.q_batch + head * params.q_head + (tile.first + row) * params.q_row;
}

fn k_at(tile: Tile, key_head: u32, key: u32) -> u32 {
  return params.k_offset + tile.sequence * params.k_batch + key_head * params.k_head + key * params.k_row;
}

fn v_at(tile: Tile, key_head: u32, key: u32) -> u32 {
  return params.v_offset + tile.sequence * params.v_batch + key_head * params.v_head + key * params.v_row;
}

// Index over [B, H, T].
fn row_index(tile: Tile, head: u32, row: u32) -> u32 {
  return (tile.sequence * params.heads + head) * params.queries + tile.first + row;
}

fn load_q(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(q[at + column]);
}

fn load_k(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(k[at + column]);
}

fn load_v(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(v[at + column]);
}
