// Layer norm of a row of x before a matvec: (x − mean) / sqrt(variance + eps) · (gain_offset + norm_weight) + norm_bias.
// Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 4. Two rounds: mean first, so that nothing cancels.

@group(0) @binding(6) var<storage, read> norm_weight: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> norm_bias: array<vec4<f32>>;

/// Shift and scale of the row.
fn norm_statistics(x_base: u32, lane: u32) -> vec2<f32> {
  let count = f32(params.depth4 * 4u);
  var total = vec4<f32>();
  for (var d = lane; d < params.depth4; d += WORKGROUP_SIZE) {
    total += x[x_base + d];
  }
  let mean = dot(workgroup_sum_vec4(total, lane), vec4(1.0)) / count;
  var squares = vec4<f32>();
  for (var d = lane; d < params.depth4; d += WORKGROUP_SIZE) {
    let centred = x[x_base + d] - mean;
    squares += centred * centred;
  }
  let variance = dot(workgroup_sum_vec4(squares, lane), vec4(1.0)) / count;
  return vec2(mean, inverseSqrt(variance + params.norm_eps));
}

fn normalise(value: vec4<f32>, d: u32, statistics: vec2<f32>) -> vec4<f32> {
  var result = (value - statistics.x) * statistics.y * (params.gain_offset + norm_weight[d]);
  if (params.has_norm_bias == 1u) {
    result += norm_bias[d];
  }
  return result;
}
