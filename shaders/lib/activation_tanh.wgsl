// act(x) = tanh(x).

// tanh is 1 in f32 from 10 on; some drivers compute it from exp(2x), which overflows above 44.
fn bounded_tanh(x: f32) -> f32 {
  return tanh(clamp(x, -10.0, 10.0));
}

fn activate(x: f32) -> f32 {
  return bounded_tanh(x);
}

fn activate_grad(x: f32) -> f32 {
  let t = bounded_tanh(x);
  return 1.0 - t * t;
}
