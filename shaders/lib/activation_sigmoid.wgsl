// act(x) = 1 / (1 + e^−x).

fn activate(x: f32) -> f32 {
  // e^80 is finite in f32, and 1 / (1 + e^80) is 0 to every tolerance.
  return 1.0 / (1.0 + exp(min(-x, 80.0)));
}

fn activate_grad(x: f32) -> f32 {
  let s = activate(x);
  return s * (1.0 - s);
}
