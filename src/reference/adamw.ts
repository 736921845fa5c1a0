/** Hyperparameters of {@link adamwStep}; `step` counts from 1. */
export interface AdamwOptions {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  step: number;
}

/**
 * One AdamW step, in place: `p ← p · (1 − lr · weightDecay)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
 * `p ← p − lr · m̂ / (√v̂ + eps)` with `m̂ = m / (1 − β₁^step)`, `v̂ = v / (1 − β₂^step)`.
 *
 * param, grad, m, v: one shape; m and v start at 0.
 * Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), Alg. 2, as PyTorch computes it.
 */
export function adamwStep(
  state: { param: Float64Array; m: Float64Array; v: Float64Array },
  grad: Float64Array,
  options: AdamwOptions,
): void {
  const { lr, beta1, beta2, eps, weightDecay, step } = options;
  const { param, m, v } = state;
  for (let i = 0; i < param.length; i++) {
    const g = grad[i]!;
    m[i] = beta1 * m[i]! + (1 - beta1) * g;
    v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
    const mHat = m[i]! / (1 - beta1 ** step);
    const vHat = v[i]! / (1 - beta2 ** step);
    param[i] = param[i]! * (1 - lr * weightDecay) - (lr * mHat) / (Math.sqrt(vHat) + eps);
  }
}
