// kv[page(n), 0, h, position % 32] = blocks of k[n, h],  kv[page(n), 1, h, position % 32] = blocks of v[n, h]
// with page(n) = page_table[slot(n), position(n) / 32]; byte = round(x / scale), scale = max |x of the block| / 127
//
// in:  k, v [rows, heads · head_dim] f32, rows `k_stride` and `v_stride` apart from `k_offset` and `v_offset` on
//      row_table [rows] (slot, position); page_table [slots, max_pages]
// out: kv [pages, 2, heads, 32, 9 · head_dim / 32] words: of 32 channels the scale, an f16 in a word of its own so that no two
//      blocks share one, then 32 signed bytes
// One invocation: one block of 32 channels of one key or value, read twice: for its scale, then to be stored.
// Workgroup memory: 0 bytes.
// Preconditions: head_dim is a multiple of 32; else those of kv_append.wgsl. Source: GGUF's Q8_0.

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
@group(0) @binding(4) var<storage, read_write> kv: array<u32>;
@group(0) @binding(5) var<uniform> params: Params;

const PAGE_TOKENS: u32 = 32u;
const BLOCK: u32 = 32u;
const BLOCK_WORDS: u32 = 9u;

// Four neighbouring channels, the first of them `column` of the row.
fn channels(is_value: bool, row: u32, column: u32) -> vec4<f32> {
  if (is_value) {
    let at = params.v_offset + row * params.v_stride + column;
    return vec4<f32>(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
  }
  let at = params.k_offset + row * params.k_stride + column;
  return vec4<f32>(k[at], k[at + 1u], k[at + 2u], k[at + 3u]);
}

// The low bytes of four numbers in one word, the first lowest.
fn bytes_of(x: vec4<i32>) -> u32 {
  let bytes = bitcast<vec4<u32>>(x) & vec4<u32>(0xffu);
  return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let blocks = params.heads * params.head_dim / BLOCK;
  let i = id.y * groups.x * 64u + id.x;
  let row = i / (2u * blocks);
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
  let part = i / blocks % 2u;
  let column = i % blocks * BLOCK;
  let head = column / params.head_dim;
  var most = vec4<f32>(0.0);
  for (var c = 0u; c < BLOCK; c += 4u) {
    most = max(most, abs(channels(part == 1u, row, column + c)));
  }
  let largest = max(max(most.x, most.y), max(most.z, most.w));
  let inverse = select(0.0, 127.0 / largest, largest > 0.0);
  let token = ((page * 2u + part) * params.heads + head) * PAGE_TOKENS + entry.y % PAGE_TOKENS;
  let at = (token * (params.head_dim / BLOCK) + column % params.head_dim / BLOCK) * BLOCK_WORDS;
  // The largest scale that f16 holds, where WGSL would leave the result open.
  kv[at] = pack2x16float(vec2<f32>(min(largest / 127.0, 65504.0), 0.0));
  for (var c = 0u; c < BLOCK; c += 4u) {
    let scaled = clamp(round(channels(part == 1u, row, column + c) * inverse), vec4<f32>(-127.0), vec4<f32>(127.0));
    kv[at + 1u + c / 4u] = bytes_of(vec4<i32>(scaled));
  }
}
