/** How rows become one. */
export type PoolMode = "mean" | "mean_sqrt_len" | "weighted_mean" | "last" | "max";

interface Sizes {
  readonly B: number;
  readonly T: number;
  readonly C: number;
  readonly mode: PoolMode;
}

/** Weight of row t of n; of the largest, 1 where it is the first of the largest. */
function share(mode: PoolMode, t: number, column: ArrayLike<number>): number {
  const n = column.length;
  if (mode === "mean") return 1 / n;
  if (mode === "mean_sqrt_len") return 1 / Math.sqrt(n);
  if (mode === "weighted_mean") return (t + 1) / ((n * (n + 1)) / 2);
  if (mode === "last") return t === n - 1 ? 1 : 0;
  const all = Array.from(column);
  return t === all.indexOf(Math.max(...all)) ? 1 : 0;
}

function columnOf(x: Float64Array, { T, C }: Sizes, b: number, c: number, count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, t) => x[(b * T + t) * C + c]!);
}

/** x `[B·T, C]`, lengths `[B]` → `[B, C]`: the first `lengths[b]` rows of sequence b as one row. */
export function poolRows(x: Float64Array, lengths: ArrayLike<number>, sizes: Sizes): Float64Array {
  const { B, C, mode } = sizes;
  const out = new Float64Array(B * C);
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < C; c++) {
      const column = columnOf(x, sizes, b, c, lengths[b]!);
      column.forEach((value, t) => {
        out[b * C + c] = out[b * C + c]! + value * share(mode, t, column);
      });
    }
  }
  return out;
}

/** Gradient of {@link poolRows}: dout `[B, C]` → dx `[B·T, C]`. */
export function poolRowsBackward(
  x: Float64Array,
  lengths: ArrayLike<number>,
  dout: Float64Array,
  sizes: Sizes,
): Float64Array {
  const { B, T, C, mode } = sizes;
  const dx = new Float64Array(B * T * C);
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < C; c++) {
      const column = columnOf(x, sizes, b, c, lengths[b]!);
      column.forEach((_, t) => {
        dx[(b * T + t) * C + c] = dout[b * C + c]! * share(mode, t, column);
      });
    }
  }
  return dx;
}
