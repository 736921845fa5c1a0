// scores[b, h, i, j] = cap(scale · Σ_d x[b, h, i, d] · y[b, g, j, d]), g = ⌊h / group⌋: the scores of attention before its mask;
//   cap(s) = softcap · tanh(s / softcap), or s where softcap is 0.
//
// in:  x [B, H, T, D], y [B, Hkv, S, D] by strides: q and k; for the gradient of the weights, dout and v
// out: scores [B, H, T, S] f32
// One workgroup: 16 rows of x, WORKGROUP_SIZE rows of y, one head (z: b · H + h). One invocation: one row of y with
//   the 16 of x, whose addresses the workgroup shares.
// Workgroup memory: 0 bytes.
// Preconditions: H = group · Hkv. Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.

override WORKGROUP_SIZE: u32 = 64u;

struct Params {
  heads: u32,
  group: u32,
  queries: u32,
  keys: u32,
  width: u32,
  scale: f32,
  softcap: f32,
  x_offset: u32,
  x_batch: u32,
  x_head: u32,
  x_row: u32,
  y_offset: u32,
  y_batch: u32,
  y_head: u32,
  y_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(2) var<storage, read> y: array<Element>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

fn load_x(i: u32) -> f32 {
  return unpack_element(x[element_slot(i)], i);
}

// Four rows of x, `stride` elements apart.
fn load_x4(rows: vec4<u32>, d: u32) -> vec4<f32> {
  return vec4<f32>(load_x(rows.x + d), load_x(rows.y + d), load_x(rows.z + d), load_x(rows.w + d));
}

fn capped(values: vec4<f32>) -> vec4<f32> {
  // Past ±15 tanh is ±1 in f32, and its exponentials would overflow.
  let ratio = clamp(values / max(params.softcap, 1e-20), vec4<f32>(-15.0), vec4<f32>(15.0));
  return select(values, params.softcap * tanh(ratio), params.softcap > 0.0);
}

fn store4(at: u32, query: u32, values: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (query + i < params.queries) {
      scores[at + i * params.keys] = values[i];
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = group.z / params.heads;
  let head = group.z % params.heads;
  let key = group.x * WORKGROUP_SIZE + local;
  let query = group.y * 16u;
  // Rows past the end repeat the last one and are not stored.
  let last = params.queries - 1u - query;
  let x_first = params.x_offset + batch * params.x_batch + head * params.x_head + query * params.x_row;
  let i = vec4<u32>(0u, 1u, 2u, 3u);
  let rows0 = x_first + min(i, vec4<u32>(last)) * params.x_row;
  let rows1 = x_first + min(i + 4u, vec4<u32>(last)) * params.x_row;
  let rows2 = x_first + min(i + 8u, vec4<u32>(last)) * params.x_row;
  let rows3 = x_first + min(i + 12u, vec4<u32>(last)) * params.x_row;
  let y_first = params.y_offset + batch * params.y_batch + head / params.group * params.y_head;
  let y_row = y_first + min(key, params.keys - 1u) * params.y_row;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var d = 0u; d < params.width; d++) {
    let value = vec4<f32>(unpack_element(y[element_slot(y_row + d)], y_row + d));
    s0 = fma(load_x4(rows0, d), value, s0);
    s1 = fma(load_x4(rows1, d), value, s1);
    s2 = fma(load_x4(rows2, d), value, s2);
    s3 = fma(load_x4(rows3, d), value, s3);
  }
  if (key >= params.keys) {
    return;
  }
  let at = (group.z * params.queries + query) * params.keys + key;
  store4(at, query, capped(s0 * params.scale));
  store4(at + 4u * params.keys, query + 4u, capped(s1 * params.scale));
  store4(at + 8u * params.keys, query + 8u, capped(s2 * params.scale));
  store4(at + 12u * params.keys, query + 12u, capped(s3 * params.scale));
}
