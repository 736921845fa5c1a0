// Rows of keys and values that are to be appended: k, v [rows, heads · head_dim] f32, rows `k_stride` and `v_stride` apart
// from `k_offset` and `v_offset` on; row_table [rows] (slot, position). Goes with kv_pages.wgsl.

struct Params {
  rows: u32,
  heads: u32,
  head_dim: u32,
  k_offset: u32,
  k_stride: u32,
  v_offset: u32,
  v_stride: u32,
  slots: u32,
  max_pages: u32,
  pages: u32,
}

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> row_table: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> page_table: array<u32>;
@group(0) @binding(5) var<uniform> params: Params;

// Two neighbouring channels, the first of them `column` of the row: of the key (part 0) or of the value (part 1).
fn channel_pair(part: u32, row: u32, column: u32) -> vec2<f32> {
  if (part == 0u) {
    let at = params.k_offset + row * params.k_stride + column;
    return vec2<f32>(k[at], k[at + 1u]);
  }
  let at = params.v_offset + row * params.v_stride + column;
  return vec2<f32>(v[at], v[at + 1u]);
}

// Where head and token of an entry are in a pool of tokens [pages, 2, heads, 32].
fn token_of(page: u32, part: u32, head: u32, position: u32) -> u32 {
  return ((page * 2u + part) * params.heads + head) * PAGE_TOKENS + position % PAGE_TOKENS;
}
