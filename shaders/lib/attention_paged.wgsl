// Attention over rows of tokens and a paged pool of keys and values. The other addressing is attention_dense.wgsl.
//
// q, out [N, H·D] f32 (q may be columns of a wider matrix); kv [pages, 2, Hkv, 32, D]: K, then V of each page;
// page_table [slots, max_pages]: position p of slot s is row p % 32 of page page_table[s · max_pages + p / 32].
// Strides and offsets are in vec4s: D is a multiple of four. A tile comes from attention_tiles.wgsl or
// attention_rows.wgsl; `KvWord` and `load_kv` from the kv_load*.wgsl part of how the pool stores a channel.

struct Params {
  heads: u32,
  group: u32,
  key_heads: u32,
  columns: u32,
  value_columns: u32,
  left: u32,
  right: u32,
  ahead: u32,
  splits: u32,
  split_keys: u32,
  factor: f32,
  softcap: f32,
  buckets: u32,
  max_distance: u32,
  bidirectional: u32,
  q_offset: u32,
  q_row: u32,
  k_row: u32,
  v_row: u32,
  max_pages: u32,
}

const PAGE_TOKENS: u32 = 32u;
const NO_SLOT: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kv: array<KvWord>;
@group(0) @binding(3) var<storage, read> page_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

// Some consecutive queries of one sequence: rows first..first + rows − 1, the first at key position `position`.
struct Tile {
  sequence: u32,
  first: u32,
  rows: u32,
  position: u32,
  keys: u32,
  prefix: u32,
}

// The keys of a chunk are in the pool before its attention runs, so that the last key of the sequence is the last row's own
// or the last of the prefix.
fn paged_tile(first: u32, rows: u32, slot: u32, position: u32, prefix: u32) -> Tile {
  let keys = max(position + rows, prefix);
  return Tile(select(slot, 0u, slot == NO_SLOT), first, rows, position, select(keys, 0u, slot == NO_SLOT), prefix);
}

fn head_sink(head: u32) -> f32 {
  return MASKED;
}

fn q_at(tile: Tile, head: u32, row: u32) -> u32 {
  return params.q_offset + (tile.first + row) * params.q_row + head * params.columns;
}

fn k_at(tile: Tile, key_head: u32, key: u32) -> u32 {
  let page = page_table[tile.sequence * params.max_pages + key / PAGE_TOKENS];
  return ((page * 2u * params.key_heads + key_head) * PAGE_TOKENS + key % PAGE_TOKENS) * params.columns;
}

fn v_at(tile: Tile, key_head: u32, key: u32) -> u32 {
  return k_at(tile, key_head + params.key_heads, key);
}

fn out_at(tile: Tile, head: u32, row: u32) -> u32 {
  return ((tile.first + row) * params.heads + head) * params.columns;
}

// Index over [N, H].
fn row_index(tile: Tile, head: u32, row: u32) -> u32 {
  return (tile.first + row) * params.heads + head;
}

fn load_q(at: u32, column: u32) -> vec4<f32> {
  return q[at + column];
}

fn load_k(at: u32, column: u32) -> vec4<f32> {
  return load_kv(at + column);
}

fn load_v(at: u32, column: u32) -> vec4<f32> {
  return load_kv(at + column);
}

fn load_out(at: u32, column: u32) -> vec4<f32> {
  return out[at + column];
}

fn store_out(at: u32, column: u32, value: vec4<f32>) {
  out[at + column] = value;
}
