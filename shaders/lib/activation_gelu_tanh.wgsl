// act(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), GPT-2's approximation of GELU.
// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), §2.

const SQRT_2_OVER_PI: f32 = 0.7978845608028654;
const GELU_CUBIC: f32 = 0.044715;

fn gelu_inner_tanh(x: f32) -> f32 {
  // tanh is ±1 in f32 beyond 10; the clamp keeps drivers that compute it from exp(2x) from overflowing.
  return tanh(clamp(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x), -10.0, 10.0));
}

fn activate(x: f32) -> f32 {
  return 0.5 * x * (1.0 + gelu_inner_tanh(x));
}

fn activate_grad(x: f32) -> f32 {
  let t = gelu_inner_tanh(x);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * x * x);
}
