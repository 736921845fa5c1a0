/** `out[i] = x[i] + y[i]`; any shape. The gradient of both is `dout`. */
export function residual(x: Float64Array, y: Float64Array): Float64Array {
  return x.map((value, i) => value + y[i]!);
}
