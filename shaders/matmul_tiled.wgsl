// out[b, r, c] = act(alpha · Σ_d x[b, r, d] · weight[b / group, c, d] + bias[c]) + residual[r, c]
//
// in:  x, weight: any strides (see Params in lib/matmul_epilogue.wgsl), bias [columns], residual [rows, columns]
// out: out [batch, rows, columns] f32, sums in f32
// One workgroup (128 invocations): a tile of 64 × 64 of one batch, 16 of depth at a time. One invocation: 8 rows × 4
// columns.
// Workgroup memory: 2 · 16 · 64 · 4 = 8,192 bytes.
// Preconditions: X_DEPTH_CONTIGUOUS and WEIGHT_DEPTH_CONTIGUOUS say along which index neighbours lie, so that
// neighbouring invocations read neighbouring elements; they change the speed, never the result.

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const INVOCATIONS: u32 = 128u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<Element>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

fn weight_at(index: u32) -> f32 {
  return unpack_element(weight[element_slot(index)], index);
}

// Both tiles depth-major, so that an invocation reads its rows and its columns as vec4.
var<workgroup> x_tile: array<vec4<f32>, DEPTH * TILE / 4>;
var<workgroup> weight_tile: array<vec4<f32>, DEPTH * TILE / 4>;

/// Index within a tile (y: row or column, x: depth) of the i-th element that an invocation copies.
fn tile_place(i: u32, depth_contiguous: bool) -> vec2<u32> {
  return select(vec2(i / TILE, i % TILE), vec2(i % DEPTH, i / DEPTH), depth_contiguous);
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
    for (var i = local; i < TILE * DEPTH; i += INVOCATIONS) {
      let from_x = tile_place(i, X_DEPTH_CONTIGUOUS);
      let row = row0 + from_x.y;
      var value = 0.0;
      if (row < params.rows && d0 + from_x.x < params.depth) {
        value = x[x_base + row * params.x_row_stride + (d0 + from_x.x) * params.x_depth_stride];
      }
      x_tile[from_x.x * (TILE / 4u) + from_x.y / 4u][from_x.y % 4u] = value;

      let from_weight = tile_place(i, WEIGHT_DEPTH_CONTIGUOUS);
      let column = column0 + from_weight.y;
      value = 0.0;
      if (column < params.columns && d0 + from_weight.x < params.depth) {
        let depth = d0 + from_weight.x;
        value = weight_at(weight_base + column * params.weight_column_stride + depth * params.weight_depth_stride);
      }
      weight_tile[from_weight.x * (TILE / 4u) + from_weight.y / 4u][from_weight.y % 4u] = value;
    }
    // The tiles are complete before anyone reads them.
    workgroupBarrier();
    for (var d = 0u; d < DEPTH; d++) {
      let x0 = x_tile[(d * TILE + own_row) / 4u];
      let x1 = x_tile[(d * TILE + own_row) / 4u + 1u];
      let w = weight_tile[(d * TILE + own_column) / 4u];
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
