// Momentum: velocity = μ · velocity + direction, which takes the direction's place.

@group(0) @binding(3) var<storage, read_write> velocity: array<f32>;

fn momentum_step(i: u32, direction: f32) -> f32 {
  velocity[i] = params.momentum * velocity[i] + direction;
  return velocity[i];
}
