import { assertClose } from "../support/close.ts";
import { FINITE_DIFFERENCE } from "../support/tolerances.ts";

/**
 * Checks a gradient against central differences of `loss` at every element of `x`: `(loss(x+ε) − loss(x−ε)) / 2ε`.
 * `x` is changed in place and restored.
 */
export function checkGradient(label: string, x: Float64Array, gradient: Float64Array, loss: () => number): void {
  const { eps, atol, rtol } = FINITE_DIFFERENCE;
  const numeric = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const kept = x[i] as number;
    x[i] = kept + eps;
    const above = loss();
    x[i] = kept - eps;
    const below = loss();
    x[i] = kept;
    numeric[i] = (above - below) / (2 * eps);
  }
  assertClose(gradient, numeric, { atol, rtol, label });
}

/** `Σ a·b`: a loss whose gradient with respect to `a` is `b`. */
export function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}
