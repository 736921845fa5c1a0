// Where head_weights.wgsl finds its queries and keys: rows of tokens and a paged pool. The other addressing is
// head_weights_dense.wgsl.
//
// q [N, H·D] f32 (may be columns of a wider matrix); kv [pages, 2, Hkv, 32, D]: K, then V of each page; row_table [N]:
// (slot, position); page_table [slots, max_pages]. `KeyWord` and `key_element` come from the key_element*.wgsl part of how
// the pool stores a channel.

struct Params {
  rows: u32,
  listed: u32,
  heads: u32,
  keys: u32,
  head_dim: u32,
  group: u32,
  left: u32,
  ahead: u32,
  prefix: u32,
  scale: f32,
  softcap: f32,
  buckets: u32,
  max_distance: u32,
  bidirectional: u32,
  q_offset: u32,
  q_row: u32,
  key_heads: u32,
  max_pages: u32,
}

const PAGE_TOKENS: u32 = 32u;
const NO_SLOT: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> kv: array<KeyWord>;
@group(0) @binding(3) var<storage, read> head_list: array<u32>;
@group(0) @binding(4) var<storage, read> row_table: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> weights: array<f32>;
@group(0) @binding(6) var<storage, read> page_table: array<u32>;

struct Query {
  row: u32,
  position: u32,
  keys: u32,
  sequence: u32,
}

// A row without a token has no keys.
fn query_of(index: u32) -> Query {
  let entry = row_table[index];
  if (entry.x == NO_SLOT) {
    return Query(index, 0u, 0u, 0u);
  }
  return Query(index, entry.y, min(entry.y + 1u, params.keys), entry.x);
}

// Index of a key's first element.
fn key_at(query: Query, key_head: u32, key: u32) -> u32 {
  let page = page_table[query.sequence * params.max_pages + key / PAGE_TOKENS];
  return ((page * 2u * params.key_heads + key_head) * PAGE_TOKENS + key % PAGE_TOKENS) * params.head_dim;
}
