// out[b, r, c] = act(alpha · Σ_d x[b, r, d] · weight[b / group, c, d] + bias[c]) + residual[r, c]
//
// in:  x, weight: any strides (see Params in lib/matmul_epilogue.wgsl), bias [columns], residual [rows, columns]
// out: out [batch, rows, columns] f32, sums in f32
// One workgroup (128 invocations): a tile of 64 × 64 of one batch, 16 of depth at a time. One invocation: 8 rows × 4
// columns.
// Workgroup memory: 2 · 16 · 17 · 16 = 8,704 bytes.
// Preconditions: X_DEPTH_CONTIGUOUS and WEIGHT_DEPTH_CONTIGUOUS say along which index neighbours lie, so that
// neighbouring invocations read neighbouring elements; they change the speed, never the result.

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const INVOCATIONS: u32 = 128u;
/// vec4 from one depth to the next in a tile: one more than it holds, so that depths lie in different memory banks.
const PITCH: u32 = TILE / 4u + 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> weight: array<Element>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Four rows (or columns) of one depth each.
var<workgroup> x_tile: array<vec4<f32>, DEPTH * PITCH>;
var<workgroup> weight_tile: array<vec4<f32>, DEPTH * PITCH>;

/// Depth (x) and quad of rows or columns (y) that an invocation copies in a round.
fn tile_place(i: u32, depth_contiguous: bool) -> vec2<u32> {
  return select(vec2(i / (TILE / 4u), i % (TILE / 4u)), vec2(i % DEPTH, i / DEPTH), depth_contiguous);
}

fn x_at(base: u32, row: u32, d: u32) -> f32 {
  if (row < params.rows && d < params.depth) {
    return load_x(base + row * params.x_row_stride + d * params.x_depth_stride);
  }
  return 0.0;
}

fn weight_at(base: u32, column: u32, d: u32) -> f32 {
  if (column < params.columns && d < params.depth) {
    let index = base + column * params.weight_column_stride + d * params.weight_depth_stride;
    return load_element(index);
  }
  return 0.0;
}

// The bound is no constant, so that compilers that unroll loops have one epilogue a row to compile, not four.
fn store_row(sums: vec4<f32>, row: u32, first: u32, batch: u32) {
  if (row >= params.rows) {
    return;
  }
  let base = params.out_offset + batch * params.out_batch_stride + row * params.out_row_stride;
  for (var column = first; column < min(first + 4u, params.columns); column++) {
    out[base + column] = finish(sums[column - first], row, column);
  }
}

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = group.z;
  let row0 = group.x * TILE;
  let column0 = group.y * TILE;
  let x_base = params.x_offset + batch * params.x_batch_stride;
  let weight_base = params.weight_offset + (batch / params.weight_group) * params.weight_batch_stride;
  let own_row = local / 16u * 8u;
  let own_column = local % 16u * 4u;
  var sums: array<vec4<f32>, 8>;
  for (var d0 = 0u; d0 < params.depth; d0 += DEPTH) {
    for (var i = local; i < TILE / 4u * DEPTH; i += INVOCATIONS) {
      let of_x = tile_place(i, X_DEPTH_CONTIGUOUS);
      let row = row0 + of_x.y * 4u;
      let d = d0 + of_x.x;
      x_tile[of_x.x * PITCH + of_x.y] =
        vec4(x_at(x_base, row, d), x_at(x_base, row + 1u, d), x_at(x_base, row + 2u, d), x_at(x_base, row + 3u, d));

      let of_weight = tile_place(i, WEIGHT_DEPTH_CONTIGUOUS);
      let column = column0 + of_weight.y * 4u;
      let e = d0 + of_weight.x;
      weight_tile[of_weight.x * PITCH + of_weight.y] = vec4(
        weight_at(weight_base, column, e),
        weight_at(weight_base, column + 1u, e),
        weight_at(weight_base, column + 2u, e),
        weight_at(weight_base, column + 3u, e),
      );
    }
    // The tiles are complete before anyone reads them.
    workgroupBarrier();
    for (var d = 0u; d < DEPTH; d++) {
      let x0 = x_tile[d * PITCH + own_row / 4u];
      let x1 = x_tile[d * PITCH + own_row / 4u + 1u];
      let w = weight_tile[d * PITCH + own_column / 4u];
      sums[0] = fma(vec4(x0.x), w, sums[0]);
      sums[1] = fma(vec4(x0.y), w, sums[1]);
      sums[2] = fma(vec4(x0.z), w, sums[2]);
      sums[3] = fma(vec4(x0.w), w, sums[3]);
      sums[4] = fma(vec4(x1.x), w, sums[4]);
      sums[5] = fma(vec4(x1.y), w, sums[5]);
      sums[6] = fma(vec4(x1.z), w, sums[6]);
      sums[7] = fma(vec4(x1.w), w, sums[7]);
    }
    // Everyone has read the tiles before the next round overwrites them.
    workgroupBarrier();
  }
  for (var r = 0u; r < 8u; r++) {
    store_row(sums[r], row0 + own_row + r, column0 + own_column, batch);
  }
}
