// The left operand stored as f16, one element a load of the binding `x`; needs the extension f16.

alias X = f16;

/// Element i.
fn load_x(i: u32) -> f32 {
  return f32(x[i]);
}
