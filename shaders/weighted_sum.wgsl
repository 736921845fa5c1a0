// out[b, h, i, d] = scale · Σ_j weights[b, h, i, j] · y[b, g, j, d], g = ⌊h / group⌋.
//
// in:  weights [B, H, T, S] f32, y [B, Hkv, S, D] by strides: probs and v; for the gradient of q, dscores and k
// out: out [B, H, T, D] f32, by strides
// One workgroup: 16 queries, WORKGROUP_SIZE columns, one head (z: b · H + h). One invocation: one column of 16 queries,
//   whose weights' addresses the workgroup shares.
// Workgroup memory: 0 bytes.
// Preconditions: H = group · Hkv; weights of masked keys are 0, and their rows of y finite.
// Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.

override WORKGROUP_SIZE: u32 = 64u;

struct Params {
  heads: u32,
  group: u32,
  queries: u32,
  keys: u32,
  width: u32,
  scale: f32,
  y_offset: u32,
  y_batch: u32,
  y_head: u32,
  y_row: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<Element>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// The weights of four queries for one key.
fn weights4(rows: vec4<u32>, key: u32) -> vec4<f32> {
  return vec4<f32>(weights[rows.x + key], weights[rows.y + key], weights[rows.z + key], weights[rows.w + key]);
}

fn store4(at: u32, query: u32, values: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (query + i < params.queries) {
      out[at + i * params.out_row] = values[i];
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = group.z / params.heads;
  let head = group.z % params.heads;
  let column = group.x * WORKGROUP_SIZE + local;
  let query = group.y * 16u;
  // Queries past the end repeat the last one and are not stored.
  let last = params.queries - 1u - query;
  let first = (group.z * params.queries + query) * params.keys;
  let i = vec4<u32>(0u, 1u, 2u, 3u);
  let rows0 = first + min(i, vec4<u32>(last)) * params.keys;
  let rows1 = first + min(i + 4u, vec4<u32>(last)) * params.keys;
  let rows2 = first + min(i + 8u, vec4<u32>(last)) * params.keys;
  let rows3 = first + min(i + 12u, vec4<u32>(last)) * params.keys;
  var at = params.y_offset + batch * params.y_batch + head / params.group * params.y_head + min(column, params.width - 1u);
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var key = 0u; key < params.keys; key++) {
    let value = vec4<f32>(unpack_element(y[element_slot(at)], at));
    s0 = fma(weights4(rows0, key), value, s0);
    s1 = fma(weights4(rows1, key), value, s1);
    s2 = fma(weights4(rows2, key), value, s2);
    s3 = fma(weights4(rows3, key), value, s3);
    at += params.y_row;
  }
  if (column >= params.width) {
    return;
  }
  let out_at = batch * params.out_batch + head * params.out_head + query * params.out_row + column;
  store4(out_at, query, s0 * params.scale);
  store4(out_at + 4u * params.out_row, query + 4u, s1 * params.scale);
  store4(out_at + 8u * params.out_row, query + 8u, s2 * params.scale);
  store4(out_at + 12u * params.out_row, query + 12u, s3 * params.scale);
}
