// out = act(alpha · sum + bias) + residual: what every matmul kernel does with a finished sum, and the parameters that
// they share. Strides and offsets count elements. The kernel binds `bias` and `residual`; where a call has none,
// something readable is bound in its place and its flag is 0.

struct Params {
  // out is [batch, rows, columns], sums have `depth` products.
  rows: u32,
  columns: u32,
  depth: u32,
  // Element (row, d) of x is at x_offset + batch · x_batch_stride + row · x_row_stride + d · x_depth_stride.
  x_offset: u32,
  x_row_stride: u32,
  x_depth_stride: u32,
  x_batch_stride: u32,
  // Element (column, d) of the weight; `weight_group` batches of x share one of it.
  weight_offset: u32,
  weight_column_stride: u32,
  weight_depth_stride: u32,
  weight_batch_stride: u32,
  weight_group: u32,
  out_offset: u32,
  out_row_stride: u32,
  out_batch_stride: u32,
  residual_offset: u32,
  residual_row_stride: u32,
  bias_offset: u32,
  has_bias: u32,
  has_residual: u32,
  // 1 if alpha, bias, activation or residual change anything.
  has_epilogue: u32,
  alpha: f32,
}

fn finish(sum: f32, row: u32, column: u32) -> f32 {
  var value = sum * params.alpha;
  if (params.has_bias == 1u) {
    value += bias[params.bias_offset + column];
  }
  value = activate(value);
  if (params.has_residual == 1u) {
    value += residual[params.residual_offset + row * params.residual_row_stride + column];
  }
  return value;
}
