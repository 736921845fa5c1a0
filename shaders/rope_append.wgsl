// q_out = rope(q), and into the pool kv: rope(k) and v of every row, at page_table[slot, position / 32], position % 32
//
// in:  q [rows, heads · head_dim], k, v [rows, kv_heads · head_dim] f32, each with its own offset and row stride
//      cos_sin [max_positions, rotary / 2, 2] f32; row_table [rows] (slot, position); page_table [slots, max_pages]
// out: q_out [rows, heads · head_dim] f32, 0 in inactive rows; kv [pages, 2, kv_heads, 32, head_dim] f32 or f16, in pairs
// One invocation: two neighbouring channels of one head, so that f16 is stored whole words at a time.
// Workgroup memory: 0 bytes.
// Preconditions: those of rope.wgsl and kv_append.wgsl, of which this is the fusion: same values, one dispatch.

struct Params {
  rows: u32,
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  rotary: u32,
  interleaved: u32,
  max_positions: u32,
  q_offset: u32,
  q_stride: u32,
  k_offset: u32,
  k_stride: u32,
  v_offset: u32,
  v_stride: u32,
  slots: u32,
  max_pages: u32,
  pages: u32,
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> cos_sin: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> row_table: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> q_out: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> kv: array<KvPair>;
@group(0) @binding(8) var<uniform> params: Params;

const INACTIVE: u32 = 0xffffffffu;

// Channels c and c + 1 of a head from their own values and their partners', turned by the row's position.
fn turned(c: u32, own: vec2<f32>, partners: vec2<f32>, position: u32) -> vec2<f32> {
  let row = min(position, params.max_positions - 1u) * (params.rotary / 2u);
  let first = cos_sin[row + rotary_pair(c, params.rotary, params.interleaved)];
  let second = cos_sin[row + rotary_pair(c + 1u, params.rotary, params.interleaved)];
  return vec2<f32>(
    rotary_turn(c, own.x, partners.x, first, params.rotary, params.interleaved),
    rotary_turn(c + 1u, own.y, partners.y, second, params.rotary, params.interleaved),
  );
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let half_dim = params.head_dim / 2u;
  let row_heads = params.heads + 2u * params.kv_heads;
  let i = id.y * groups.x * 64u + id.x;
  let row = i / (row_heads * half_dim);
  if (row >= params.rows) {
    return;
  }
  let entry = row_table[row];
  let row_head = i / half_dim % row_heads;
  let c = i % half_dim * 2u;
  let turns = c < params.rotary;
  let p0 = rotary_partner(c, params.rotary, params.interleaved);
  let p1 = rotary_partner(c + 1u, params.rotary, params.interleaved);
  if (row_head < params.heads) {
    let head = params.q_offset + row * params.q_stride + row_head * params.head_dim;
    var pair = vec2<f32>(q[head + c], q[head + c + 1u]);
    if (turns) {
      pair = turned(c, pair, vec2<f32>(q[head + p0], q[head + p1]), entry.y);
    }
    q_out[(row * params.heads + row_head) * half_dim + c / 2u] = select(pair, vec2<f32>(0.0), entry.x == INACTIVE);
    return;
  }
  let page = page_of(entry);
  if (page == NO_PAGE) {
    return;
  }
  let is_value = (row_head - params.heads) / params.kv_heads;
  let kv_head = (row_head - params.heads) % params.kv_heads;
  var pair: vec2<f32>;
  if (is_value == 0u) {
    let head = params.k_offset + row * params.k_stride + kv_head * params.head_dim;
    pair = vec2<f32>(k[head + c], k[head + c + 1u]);
    if (turns) {
      pair = turned(c, pair, vec2<f32>(k[head + p0], k[head + p1]), entry.y);
    }
  } else {
    let head = params.v_offset + row * params.v_stride + kv_head * params.head_dim;
    pair = vec2<f32>(v[head + c], v[head + c + 1u]);
  }
  let token = ((page * 2u + is_value) * params.kv_heads + kv_head) * PAGE_TOKENS + entry.y % PAGE_TOKENS;
  kv[token * half_dim + c / 2u] = pack_kv(pair);
}
