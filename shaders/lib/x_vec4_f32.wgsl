// The left operand stored as f32, four a load of the binding `x`.

alias X = vec4<f32>;

/// Elements 4i to 4i + 3.
fn load_x(i: u32) -> vec4<f32> {
  return x[i];
}
