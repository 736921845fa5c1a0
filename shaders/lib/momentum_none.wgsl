// Gradient descent without momentum: the direction as it is.

fn momentum_step(i: u32, direction: f32) -> f32 {
  return direction;
}
