/**
 * Scales all gradients, in place, by `min(1, maxNorm / (norm + 1e-6))`, norm being the Euclidean norm over all of them; returns norm.
 * Source: Pascanu et al., "On the difficulty of training Recurrent Neural Networks" (2013), Alg. 1, as PyTorch computes it.
 */
export function clipGradients(grads: readonly Float64Array[], maxNorm: number): number {
  let sumSquares = 0;
  for (const grad of grads) for (const g of grad) sumSquares += g * g;
  const norm = Math.sqrt(sumSquares);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  for (const grad of grads) for (let i = 0; i < grad.length; i++) grad[i] = grad[i]! * factor;
  return norm;
}
