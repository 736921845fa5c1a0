// The left operand stored as f16, four a load of the binding `x`; needs the extension f16.

alias X = vec4<f16>;

/// Elements 4i to 4i + 3.
fn load_x(i: u32) -> vec4<f32> {
  return vec4<f32>(x[i]);
}
