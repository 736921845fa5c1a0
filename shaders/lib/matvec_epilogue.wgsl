// What the matvec kernels share: sizes, which weight row a sum belongs to, and what becomes of it.
//
// Each kernel defines ROW_STEP, the distance of an invocation's outputs, and has four sums: four outputs, or, GATED, two
// gates and their ups.

struct Params {
  x_rows: u32,
  columns: u32,
  // Depth, offset and stride of x in vec4.
  depth4: u32,
  x_offset4: u32,
  x_row_stride4: u32,
  out_offset: u32,
  out_row_stride: u32,
  residual_offset: u32,
  residual_row_stride: u32,
  bias_offset: u32,
  has_bias: u32,
  has_residual: u32,
  has_norm_bias: u32,
  norm_eps: f32,
  gain_offset: f32,
}

const OUTPUTS: u32 = select(4u, 2u, GATED);

/// The weight row that the i-th sum belongs to; past the end it is the last, and is not stored.
fn weight_row(first: u32, i: u32) -> u32 {
  if (GATED) {
    return min(first + i % 2u * ROW_STEP, params.columns - 1u) + (i / 2u) * params.columns;
  }
  return min(first + i * ROW_STEP, params.columns - 1u);
}

fn with_bias(sum: f32, row: u32) -> f32 {
  if (params.has_bias == 1u) {
    return sum + bias[params.bias_offset + row];
  }
  return sum;
}

/// Stores the i-th output of x's row n.
fn store(sums: vec4<f32>, n: u32, first: u32, i: u32) {
  let column = first + i * ROW_STEP;
  var value: f32;
  if (GATED) {
    let gate = with_bias(sums[i], weight_row(first, i));
    value = activate(gate) * with_bias(sums[i + 2u], weight_row(first, i + 2u));
  } else {
    value = activate(with_bias(sums[i], column));
  }
  if (params.has_residual == 1u) {
    value += residual[params.residual_offset + n * params.residual_row_stride + column];
  }
  out[params.out_offset + n * params.out_row_stride + column] = value;
}
