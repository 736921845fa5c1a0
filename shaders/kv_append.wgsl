// kv[page(n), 0, h, position % 32] = k[n, h],  kv[page(n), 1, h, position % 32] = v[n, h]
// with page(n) = page_table[slot(n), position(n) / 32]
//
// in:  k, v [rows, heads · head_dim] f32, rows `k_stride` and `v_stride` apart from `k_offset` and `v_offset` on
//      row_table [rows] (slot, position); page_table [slots, max_pages]
// out: kv [pages, 2, heads, 32, head_dim] f32 or f16, in pairs of channels
// One invocation: two neighbouring channels of one key or value, so that f16 is stored whole words at a time.
// Workgroup memory: 0 bytes.
// Preconditions: head_dim is even; no two rows have the same slot and position. Inactive rows, positions past the slot's
// pages and page numbers past the pool write nothing: WebGPU would move such a store to some other page.

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
@group(0) @binding(4) var<storage, read_write> kv: array<KvPair>;
@group(0) @binding(5) var<uniform> params: Params;

const PAGE_TOKENS: u32 = 32u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let pairs = params.heads * params.head_dim / 2u;
  let i = id.y * groups.x * 64u + id.x;
  let row = i / (2u * pairs);
  if (row >= params.rows) {
    return;
  }
  let entry = row_table[row];
  let page_index = entry.y / PAGE_TOKENS;
  if (entry.x >= params.slots || page_index >= params.max_pages) {
    return;
  }
  let page = page_table[entry.x * params.max_pages + page_index];
  if (page >= params.pages) {
    return;
  }
  let is_value = i / pairs % 2u;
  let column = i % pairs * 2u;
  let head = column / params.head_dim;
  var pair: vec2<f32>;
  if (is_value == 0u) {
    let at = params.k_offset + row * params.k_stride + column;
    pair = vec2<f32>(k[at], k[at + 1u]);
  } else {
    let at = params.v_offset + row * params.v_stride + column;
    pair = vec2<f32>(v[at], v[at + 1u]);
  }
  let token = ((page * 2u + is_value) * params.heads + head) * PAGE_TOKENS + entry.y % PAGE_TOKENS;
  kv[(token * params.head_dim + column % params.head_dim) / 2u] = pack_kv(pair);
}
