/** Sizes and layout of a batched matrix product. */
export interface MatmulOptions {
  /** Number of independent products; the leading dimension of all three arrays. Default 1. */
  batch?: number;
  /** Rows of the result. */
  M: number;
  /** Columns of the result. */
  N: number;
  /** Length of the sums. */
  K: number;
  /** `a` is stored `[K, M]` ("TN"). Default false: `[M, K]`. */
  transposeA?: boolean;
  /** `b` is stored `[N, K]` ("NT", a linear layer's weight). Default false: `[K, N]`. */
  transposeB?: boolean;
}

/**
 * `out[m, n] = Σ_k a[m, k] · b[k, n]`, for every batch; NN, NT, TN and TT by the two flags.
 *
 * a `[batch, M, K]` or `[batch, K, M]`, b `[batch, K, N]` or `[batch, N, K]` → `[batch, M, N]`.
 */
export function matmul(a: Float64Array, b: Float64Array, options: MatmulOptions): Float64Array {
  const { batch = 1, M, N, K, transposeA = false, transposeB = false } = options;
  const out = new Float64Array(batch * M * N);
  for (let g = 0; g < batch; g++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) {
          const ia = transposeA ? k * M + m : m * K + k;
          const ib = transposeB ? n * K + k : k * N + n;
          sum += a[g * M * K + ia]! * b[g * K * N + ib]!;
        }
        out[(g * M + m) * N + n] = sum;
      }
    }
  }
  return out;
}

/** Sizes of a linear layer: `N` rows, `I` inputs, `O` outputs. */
export interface LinearOptions {
  N: number;
  I: number;
  O: number;
}

/**
 * `out = x · weightᵀ + bias`, as PyTorch's `Linear` stores it.
 *
 * x `[N, I]`, weight `[O, I]`, bias `[O]` or absent → `[N, O]`.
 */
export function linear(
  x: Float64Array,
  weight: Float64Array,
  options: LinearOptions & { bias?: Float64Array },
): Float64Array {
  const { N, I, O, bias } = options;
  const out = matmul(x, weight, { M: N, N: O, K: I, transposeB: true });
  if (bias) for (let i = 0; i < out.length; i++) out[i] = out[i]! + bias[i % O]!;
  return out;
}

/**
 * Gradients of {@link linear}: `dx = dout · weight`, `dweight = doutᵀ · x`, `dbias = Σ_n dout[n]`.
 *
 * x `[N, I]`, weight `[O, I]`, dout `[N, O]` → dx `[N, I]`, dweight `[O, I]`, dbias `[O]`.
 */
export function linearBackward(
  x: Float64Array,
  weight: Float64Array,
  dout: Float64Array,
  options: LinearOptions,
): { dx: Float64Array; dweight: Float64Array; dbias: Float64Array } {
  const { N, I, O } = options;
  const dbias = new Float64Array(O);
  for (let i = 0; i < dout.length; i++) dbias[i % O] = dbias[i % O]! + dout[i]!;
  return {
    dx: matmul(dout, weight, { M: N, N: I, K: O }),
    dweight: matmul(dout, x, { M: O, N: I, K: N, transposeA: true }),
    dbias,
  };
}
