// act(x) = max(x, 0); the derivative at 0 is 0.

fn activate(x: f32) -> f32 {
  return max(x, 0.0);
}

fn activate_grad(x: f32) -> f32 {
  return select(0.0, 1.0, x > 0.0);
}
