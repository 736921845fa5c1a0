// act(x) = x / (1 + e^−x), "swish".

fn sigmoid(x: f32) -> f32 {
  // e^80 is finite in f32, and 1 / (1 + e^80) is 0 to every tolerance.
  return 1.0 / (1.0 + exp(min(-x, 80.0)));
}

fn activate(x: f32) -> f32 {
  return x * sigmoid(x);
}

fn activate_grad(x: f32) -> f32 {
  let s = sigmoid(x);
  return s * (1.0 + x * (1.0 - s));
}
