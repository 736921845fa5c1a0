// act(x) = x: linked where a kernel has an activation slot and the call wants none.

fn activate(x: f32) -> f32 {
  return x;
}

fn activate_grad(x: f32) -> f32 {
  return 1.0;
}
