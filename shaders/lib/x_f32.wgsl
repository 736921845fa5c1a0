// The left operand stored as f32, one element a load of the binding `x`.

alias X = f32;

/// Element i.
fn load_x(i: u32) -> f32 {
  return x[i];
}
