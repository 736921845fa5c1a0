// out[b, r, c] = act(alpha · Σ_d x[b, r, d] · weight[b / group, d, c] + bias[c]) + residual[r, c]
//
// in:  x [batch, rows, depth] or, TRANSPOSE_X, [batch, depth, rows]; weight [batch / group, depth, columns]; any strides,
//      but columns of weight lie side by side; bias [columns], residual [rows, columns]
// out: out [batch, rows, columns] f32, sums in f32
// One workgroup is one subgroup of SUBGROUP (4 or 8) invocations: 2 · SUBGROUP rows × 4 · SUBGROUP columns. One invocation:
// four neighbouring columns of all the rows.
// Workgroup memory: 0 bytes. For CPU adapters, as matmul_broadcast_nt.wgsl: x is loaded once, another piece in each lane, and
// handed round by subgroupBroadcast.
// Preconditions: weight strides and offset are multiples of 4; subgroups have SUBGROUP lanes.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

/// x at one row and one depth; 0 past the end, so that a depth that is no multiple of 4 adds nothing.
fn x_at(base: u32, row: u32, d: u32) -> f32 {
  let at = base + min(row, params.rows - 1u) * params.x_row_stride + min(d, params.depth - 1u) * params.x_depth_stride;
  return select(0.0, load_x(at), d < params.depth);
}

/// What a lane holds of SUBGROUP rows: four of depth of row `lane`, or, TRANSPOSE_X, four rows at depth `lane % 4`.
fn own_piece(base: u32, row0: u32, d: u32, lane: u32) -> vec4<f32> {
  if (TRANSPOSE_X) {
    let row = row0 + lane / 4u * 4u;
    let at = d + lane % 4u;
    return vec4(x_at(base, row, at), x_at(base, row + 1u, at), x_at(base, row + 2u, at), x_at(base, row + 3u, at));
  }
  let row = row0 + lane;
  return vec4(x_at(base, row, d), x_at(base, row, d + 1u), x_at(base, row, d + 2u), x_at(base, row, d + 3u));
}

/// A column a row, four of depth each, from the pieces of four lanes.
fn oriented(pieces: mat4x4<f32>) -> mat4x4<f32> {
  if (TRANSPOSE_X) {
    return transpose(pieces);
  }
  return pieces;
}

fn lower_rows(own: vec4<f32>) -> mat4x4<f32> {
  return oriented(mat4x4(
    subgroupBroadcast(own, 0u),
    subgroupBroadcast(own, 1u),
    subgroupBroadcast(own, 2u),
    subgroupBroadcast(own, 3u),
  ));
}

fn upper_rows(own: vec4<f32>) -> mat4x4<f32> {
  return oriented(mat4x4(
    subgroupBroadcast(own, 4u),
    subgroupBroadcast(own, 5u),
    subgroupBroadcast(own, 6u),
    subgroupBroadcast(own, 7u),
  ));
}

// The bounds are no constants: compilers that unroll loops would have 32 stores to compile.
fn store_rows(sums: mat4x4<f32>, row: u32, column: u32, out_base: u32) {
  for (var c = column; c < min(column + 4u, params.columns); c++) {
    let i = c - column;
    let sum = vec4(sums[0][i], sums[1][i], sums[2][i], sums[3][i]);
    for (var r = row; r < min(row + 4u, params.rows); r++) {
      out[out_base + r * params.out_row_stride + c] = sum[r - row];
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.x * 2u * SUBGROUP;
  let column0 = (group.y * SUBGROUP + lane) * 4u;
  let x_base = params.x_offset + batch * params.x_batch_stride;
  // Columns past the end read the last four; they are not stored.
  let last_columns = (params.columns + 3u) / 4u * 4u - 4u;
  let weight_base = params.weight_offset + (batch / params.weight_group) * params.weight_batch_stride + min(column0, last_columns);
  var a_lower: mat4x4<f32>;
  var a_upper: mat4x4<f32>;
  var b_lower: mat4x4<f32>;
  var b_upper: mat4x4<f32>;
  for (var d = 0u; d < params.depth; d += 4u) {
    // Depths past the end read the last row; x is 0 there.
    let at = (weight_base + min(vec4(d, d + 1u, d + 2u, d + 3u), vec4(params.depth - 1u)) * params.weight_depth_stride) / 4u;
    let w = mat4x4(
      load_weight(at.x),
      load_weight(at.y),
      load_weight(at.z),
      load_weight(at.w),
    );
    let a = own_piece(x_base, row0, d, lane);
    let b = own_piece(x_base, row0 + SUBGROUP, d, lane);
    a_lower += w * lower_rows(a);
    b_lower += w * lower_rows(b);
    if (SUBGROUP == 8u) {
      a_upper += w * upper_rows(a);
      b_upper += w * upper_rows(b);
    }
  }
  let out_base = params.out_offset + batch * params.out_batch_stride;
  store_rows(a_lower, row0, column0, out_base);
  store_rows(b_lower, row0 + SUBGROUP, column0, out_base);
  if (SUBGROUP == 8u) {
    store_rows(a_upper, row0 + 4u, column0, out_base);
    store_rows(b_upper, row0 + 12u, column0, out_base);
  }
  if (params.has_epilogue == 0u) {
    return;
  }
  // A second round over what this invocation stored: the epilogue inlined for every sum takes seconds to compile.
  for (var row = row0; row < min(row0 + 2u * SUBGROUP, params.rows); row++) {
    for (var column = column0; column < min(column0 + 4u, params.columns); column++) {
      let index = out_base + row * params.out_row_stride + column;
      out[index] = finish(out[index], row, column);
    }
  }
}
