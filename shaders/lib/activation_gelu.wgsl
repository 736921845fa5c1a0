// act(x) = x · Φ(x) with the normal distribution Φ(x) = (1 + erf(x/√2)) / 2, the exact GELU.
// Source: Abramowitz and Stegun 7.1.26 for erf, |error| ≤ 1.5e-7.

const INV_SQRT_2: f32 = 0.7071067811865476;
const INV_SQRT_2_PI: f32 = 0.3989422804014327;

fn normal_cdf(x: f32) -> f32 {
  let z = abs(x) * INV_SQRT_2;
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  // 1 − erf(z): the upper tail, doubled. exp(−80) is 0 to every tolerance.
  let tail = 0.5 * p * exp(max(-z * z, -80.0));
  return select(tail, 1.0 - tail, x > 0.0);
}

fn activate(x: f32) -> f32 {
  return x * normal_cdf(x);
}

fn activate_grad(x: f32) -> f32 {
  return normal_cdf(x) + x * INV_SQRT_2_PI * exp(max(-0.5 * x * x, -80.0));
}
