// Where head_weights.wgsl finds its queries and keys: rows of one whole sequence, row t at position t. The other
// addressing is head_weights_paged.wgsl.
//
// q [T, H·D] f32, k [S, Hkv·D] (both may be columns of a wider matrix); queries [rows]: which of the T rows are wanted.
// `Element` and `unpack_element` come from the element_*.wgsl part of k's dtype.

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
  k_offset: u32,
  k_row: u32,
  queries: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<Element>;
@group(0) @binding(3) var<storage, read> head_list: array<u32>;
@group(0) @binding(4) var<storage, read> queries: array<u32>;
@group(0) @binding(5) var<storage, read_write> weights: array<f32>;

struct Query {
  row: u32,
  position: u32,
  keys: u32,
  sequence: u32,
}

fn query_of(index: u32) -> Query {
  let row = queries[index];
  return Query(row, row, params.keys, 0u);
}

// Index of a key's first element.
fn key_at(query: Query, key_head: u32, key: u32) -> u32 {
  return params.k_offset + key * params.k_row + key_head * params.head_dim;
}

fn key_element(i: u32) -> f32 {
  return unpack_element(k[element_slot(i)], i);
}
