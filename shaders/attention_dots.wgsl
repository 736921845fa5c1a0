// dots[b, h, i] = Σ_d dout[b, h, i, d] · out[b, h, i, d]: what the softmax' gradient subtracts from each dprob of a row.
//
// in:  out, dout [B, H, T, Dv] f32 by strides
// out: dots [B, H, T] f32
// One workgroup: 64 rows. One invocation: one row, four columns at a time, as the backward kernels add up dout vᵀ: where
//   one weight is 1, out is that key's value, and the difference of the two sums is exactly 0.
// Workgroup memory: 0 bytes.
// Preconditions: none. Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2, line 4.

struct Params {
  count: u32,
  heads: u32,
  queries: u32,
  width: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
  dout_offset: u32,
  dout_batch: u32,
  dout_head: u32,
  dout_row: u32,
}

const STEPS = vec4<u32>(0u, 1u, 2u, 3u);

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> out: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read_write> dots: array<f32>;

// Four elements of a row from column d on, 0 past its end.
fn load4(at: u32, d: u32) -> vec4<f32> {
  let i = min(d + STEPS, vec4<u32>(params.width - 1u));
  let x = vec4<f32>(dout[at + i.x], dout[at + i.y], dout[at + i.z], dout[at + i.w]);
  return select(vec4<f32>(0.0), x, d + STEPS < vec4<u32>(params.width));
}

fn load4_out(at: u32, d: u32) -> vec4<f32> {
  let i = min(d + STEPS, vec4<u32>(params.width - 1u));
  let x = vec4<f32>(out[at + i.x], out[at + i.y], out[at + i.z], out[at + i.w]);
  return select(vec4<f32>(0.0), x, d + STEPS < vec4<u32>(params.width));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 64u + id.x;
  if (row >= params.count) {
    return;
  }
  let query = row % params.queries;
  let head = row / params.queries % params.heads;
  let batch = row / params.queries / params.heads;
  let at = batch * params.out_batch + head * params.out_head + query * params.out_row;
  let dout_at = params.dout_offset + batch * params.dout_batch + head * params.dout_head + query * params.dout_row;
  var sum = 0.0;
  for (var d = 0u; d < params.width; d += 4u) {
    let x = load4(dout_at, d);
    let y = load4_out(at, d);
    sum = fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
  }
  dots[row] = sum;
}
