interface Sizes {
  readonly B: number;
  readonly S: number;
  readonly Cin: number;
  readonly M: number;
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
}

function stepsOf({ S, kernel, stride, padding }: Sizes): number {
  return Math.floor((S + 2 * padding - kernel) / stride) + 1;
}

/** Calls `visit` for every product of the convolution with the places of its x, weight and output. */
function eachProduct(sizes: Sizes, visit: (x: number, weight: number, out: number) => void): void {
  const { B, S, Cin, M, kernel, stride, padding } = sizes;
  const T = stepsOf(sizes);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      for (let k = 0; k < kernel; k++) {
        const s = t * stride + k - padding;
        if (s < 0 || s >= S) continue;
        for (let c = 0; c < Cin; c++) {
          for (let m = 0; m < M; m++) {
            visit((b * S + s) * Cin + c, (m * Cin + c) * kernel + k, (b * T + t) * M + m);
          }
        }
      }
    }
  }
}

/** `out[t, m] = bias[m] + Σ weight[m, c, k] · x[t·stride + k − padding, c]`: x `[B·S, Cin]`, weight `[M, Cin, kernel]` → `[B·T, M]`. */
export function conv1d(x: Float64Array, weight: Float64Array, bias: Float64Array, sizes: Sizes): Float64Array {
  const { B, M } = sizes;
  const out = Float64Array.from({ length: B * stepsOf(sizes) * M }, (_, i) => bias[i % M]!);
  eachProduct(sizes, (i, w, o) => {
    out[o] = out[o]! + x[i]! * weight[w]!;
  });
  return out;
}

/** Gradients of {@link conv1d} with respect to x and the weight. */
export function conv1dBackward(
  x: Float64Array,
  weight: Float64Array,
  dout: Float64Array,
  sizes: Sizes,
): { dx: Float64Array; dweight: Float64Array } {
  const [dx, dweight] = [new Float64Array(x.length), new Float64Array(weight.length)];
  eachProduct(sizes, (i, w, o) => {
    dx[i] = dx[i]! + weight[w]! * dout[o]!;
    dweight[w] = dweight[w]! + x[i]! * dout[o]!;
  });
  return { dx, dweight };
}
