// matvec without a norm before it.

fn norm_statistics(x_base: u32, lane: u32) -> vec2<f32> {
  return vec2(0.0, 1.0);
}

fn normalise(value: vec4<f32>, d: u32, statistics: vec2<f32>) -> vec4<f32> {
  return value;
}
