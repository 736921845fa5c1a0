// RMS norm of a row of x before a matvec: x / sqrt(mean(x²) + eps) · (gain_offset + norm_weight).
// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.

@group(0) @binding(6) var<storage, read> norm_weight: array<vec4<f32>>;

/// Shift and scale of the row.
fn norm_statistics(x_base: u32, lane: u32) -> vec2<f32> {
  var squares = vec4<f32>();
  for (var d = lane; d < params.depth4; d += WORKGROUP_SIZE) {
    let value = x[x_base + d];
    squares += value * value;
  }
  let mean = dot(workgroup_sum_vec4(squares, lane), vec4(1.0)) / f32(params.depth4 * 4u);
  return vec2(0.0, inverseSqrt(mean + params.norm_eps));
}

fn normalise(value: vec4<f32>, d: u32, statistics: vec2<f32>) -> vec4<f32> {
  return value * statistics.y * (params.gain_offset + norm_weight[d]);
}
