// kv[page(n), 0, h, position % 32] = blocks of k[n, h],  kv[page(n), 1, h, position % 32] = blocks of v[n, h]
// with page(n) = page_table[slot(n), position(n) / 32]; byte = round(x / scale), scale = max |x of the block| / 127
//
// in:  k, v [rows, heads · head_dim] f32 and row_table [rows] (slot, position) as kv_rows.wgsl says;
//      page_table [slots, max_pages]
// out: kv [pages, 2, heads, 32, 9 · head_dim / 32] words: of 32 channels the scale, an f16 in a word of its own so that no two
//      blocks share one, then 32 signed bytes
// One invocation: one block of 32 channels of one key or value, read twice: for its scale, then to be stored.
// Workgroup memory: 0 bytes.
// Preconditions: head_dim is a multiple of 32; else those of kv_append.wgsl. Source: GGUF's Q8_0.

@group(0) @binding(4) var<storage, read_write> kv: array<u32>;

const BLOCK: u32 = 32u;
const BLOCK_WORDS: u32 = 9u;

// Four neighbouring channels, the first of them `column` of the row.
fn channels(part: u32, row: u32, column: u32) -> vec4<f32> {
  return vec4<f32>(channel_pair(part, row, column), channel_pair(part, row, column + 2u));
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
  let page = page_of(entry);
  if (page == NO_PAGE) {
    return;
  }
  let part = i / blocks % 2u;
  let column = i % blocks * BLOCK;
  // Not from 0 to BLOCK: lavapipe would unroll the loops, and take eight times as long to compile them.
  let last = column + BLOCK;
  var most = vec4<f32>(0.0);
  for (var c = column; c < last; c += 4u) {
    most = max(most, abs(channels(part, row, c)));
  }
  let largest = max(max(most.x, most.y), max(most.z, most.w));
  let inverse = select(0.0, 127.0 / largest, largest > 0.0);
  let token = token_of(page, part, column / params.head_dim, entry.y);
  let at = (token * (params.head_dim / BLOCK) + column % params.head_dim / BLOCK) * BLOCK_WORDS;
  // The largest scale that f16 holds, where WGSL would leave the result open.
  kv[at] = pack2x16float(vec2<f32>(min(largest / 127.0, 65504.0), 0.0));
  for (var c = column; c < last; c += 4u) {
    let scaled = clamp(round(channels(part, row, c) * inverse), vec4<f32>(-127.0), vec4<f32>(127.0));
    kv[at + 1u + (c - column) / 4u] = bytes_of(vec4<i32>(scaled));
  }
}
