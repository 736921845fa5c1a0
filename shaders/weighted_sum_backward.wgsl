// out[b, g, j, d] = scale · Σ_{h in group g} Σ_i weights[b, h, i, j] · x[b, h, i, d]: what queries send back to keys.
//
// in:  weights [B, H, T, S] f32, x [B, H, T, D] by strides: probs and dout for dv; dscores and q for dk
// out: out [B, Hkv, S, D] f32, by strides
// One workgroup: 16 keys, WORKGROUP_SIZE columns, one key head (z: b · Hkv + g). One invocation: one column of 16
//   keys, whose weights' addresses the workgroup shares.
// Workgroup memory: 0 bytes.
// Preconditions: heads = group · Hkv. The order of the sum is that of h, then i.
// Source: Dao, "FlashAttention-2" (2023), §2.2.

override WORKGROUP_SIZE: u32 = 64u;

struct Params {
  heads: u32,
  group: u32,
  queries: u32,
  keys: u32,
  width: u32,
  scale: f32,
  x_offset: u32,
  x_batch: u32,
  x_head: u32,
  x_row: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// The weights of four keys for one query.
fn weights4(row: u32, keys: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(weights[row + keys.x], weights[row + keys.y], weights[row + keys.z], weights[row + keys.w]);
}

fn store4(at: u32, key: u32, values: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (key + i < params.keys) {
      out[at + i * params.out_row] = values[i];
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let key_heads = params.heads / params.group;
  let batch = group.z / key_heads;
  let key_head = group.z % key_heads;
  let column = group.x * WORKGROUP_SIZE + local;
  let key = group.y * 16u;
  // Keys past the end repeat the last one and are not stored.
  let last = vec4<u32>(params.keys - 1u);
  let i = key + vec4<u32>(0u, 1u, 2u, 3u);
  let keys0 = min(i, last);
  let keys1 = min(i + 4u, last);
  let keys2 = min(i + 8u, last);
  let keys3 = min(i + 12u, last);
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  for (var head = key_head * params.group; head < (key_head + 1u) * params.group; head++) {
    var row = (batch * params.heads + head) * params.queries * params.keys;
    var at = params.x_offset + batch * params.x_batch + head * params.x_head + min(column, params.width - 1u);
    for (var query = 0u; query < params.queries; query++) {
      let value = vec4<f32>(unpack_element(x[element_slot(at)], at));
      s0 = fma(weights4(row, keys0), value, s0);
      s1 = fma(weights4(row, keys1), value, s1);
      s2 = fma(weights4(row, keys2), value, s2);
      s3 = fma(weights4(row, keys3), value, s3);
      row += params.keys;
      at += params.x_row;
    }
  }
  if (column >= params.width) {
    return;
  }
  let out_at = batch * params.out_batch + key_head * params.out_head + key * params.out_row + column;
  store4(out_at, key, s0 * params.scale);
  store4(out_at + 4u * params.out_row, key + 4u, s1 * params.scale);
  store4(out_at + 8u * params.out_row, key + 8u, s2 * params.scale);
  store4(out_at + 12u * params.out_row, key + 12u, s3 * params.scale);
}
