// out[b, r, c] = act(alpha · Σ_d x[b, r, d] · weight[b / group, c, d] + bias[c]) + residual[r, c]
//
// in:  x, weight: any strides (see Params in lib/matmul_epilogue.wgsl), bias [columns], residual [rows, columns]
// out: out [batch, rows, columns] f32, sums in f32
// One workgroup: 32 rows × 32 columns of one batch. One invocation: a tile of 4 × 4, columns 8 apart.
// Workgroup memory: 0 bytes.
// Preconditions: none on sizes or alignment; the variant for odd strides, and for CPU adapters without subgroups.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> weight: array<Element>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

fn weight_at(index: u32) -> f32 {
  return load_element(index);
}

// The bound is no constant, so that compilers that unroll loops have one epilogue a row to compile, not four.
fn store_row(sums: vec4<f32>, row: u32, first: u32, batch: u32) {
  if (row >= params.rows) {
    return;
  }
  let base = params.out_offset + batch * params.out_batch_stride + row * params.out_row_stride;
  for (var column = first; column < min(first + 32u, params.columns); column += 8u) {
    out[base + column] = finish(sums[(column - first) / 8u], row, column);
  }
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let batch = group.z;
  let row = group.x * 32u + local.y * 4u;
  let column = group.y * 32u + local.x;
  let x_base = params.x_offset + batch * params.x_batch_stride;
  let weight_base = params.weight_offset + (batch / params.weight_group) * params.weight_batch_stride;
  // Rows and columns past the end read the last one and are not stored.
  let rows = x_base + min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(params.rows - 1u)) * params.x_row_stride;
  let columns = weight_base
    + min(vec4(column, column + 8u, column + 16u, column + 24u), vec4(params.columns - 1u)) * params.weight_column_stride;
  var sum0 = vec4<f32>();
  var sum1 = vec4<f32>();
  var sum2 = vec4<f32>();
  var sum3 = vec4<f32>();
  for (var d = 0u; d < params.depth; d++) {
    let at = columns + d * params.weight_depth_stride;
    let w = vec4(weight_at(at.x), weight_at(at.y), weight_at(at.z), weight_at(at.w));
    let own = rows + d * params.x_depth_stride;
    sum0 += load_x(own.x) * w;
    sum1 += load_x(own.y) * w;
    sum2 += load_x(own.z) * w;
    sum3 += load_x(own.w) * w;
  }
  store_row(sum0, row, column, batch);
  store_row(sum1, row + 1u, column, batch);
  store_row(sum2, row + 2u, column, batch);
  store_row(sum3, row + 3u, column, batch);
}
