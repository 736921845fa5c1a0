// The left operand stored as f16, read as pairs in u32 of the binding `x`, for devices without the extension f16.

alias X = vec2<u32>;

/// Elements 4i to 4i + 3.
fn load_x(i: u32) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(x[i].x), unpack2x16float(x[i].y));
}
