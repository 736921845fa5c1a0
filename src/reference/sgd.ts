/**
 * One step of gradient descent, in place: `p ← p − lr · (g + weightDecay · p)`; with momentum μ the bracket goes through
 * `buffer ← μ · buffer + bracket` and `p ← p − lr · buffer`, as PyTorch computes it.
 *
 * param, grad, buffer: one shape; the buffer starts at 0.
 */
export function sgdStep(
  state: { param: Float64Array; buffer?: Float64Array },
  grad: Float64Array,
  options: { lr: number; momentum?: number; weightDecay?: number },
): void {
  const { lr, momentum = 0, weightDecay = 0 } = options;
  const { param, buffer } = state;
  for (let i = 0; i < param.length; i++) {
    let direction = grad[i]! + weightDecay * param[i]!;
    if (buffer) {
      buffer[i] = momentum * buffer[i]! + direction;
      direction = buffer[i]!;
    }
    param[i] = param[i]! - lr * direction;
  }
}
