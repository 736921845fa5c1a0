// out[r, c] = act(alpha · Σ_d x[r, d] · weight[c, d] + bias[c]) + residual[r, c], batched
//
// in:  x [batch, rows, depth], weight [columns, depth] (a batch of its own for every weight_group of x), bias [columns],
//      residual [rows, columns]
// out: out [batch, rows, columns] f32, sums in f32
// One workgroup is one subgroup of SUBGROUP (4 or 8) invocations: 2 · SUBGROUP rows × 4 · SUBGROUP columns. One invocation:
// four columns, SUBGROUP apart, of all the rows.
// Workgroup memory: 0 bytes. For CPU adapters: they load from memory lane by lane, 32 scalar loads for a vec4 of 8 lanes,
// so each lane loads another row of x and hands it to the others by subgroupBroadcast, which is one instruction a value.
// Preconditions: depth, x strides and offset, weight strides and offset are multiples of 4; subgroups have SUBGROUP lanes.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

/// Adds the products of the rows that lanes 0–3 hold: sums[i] are row i's sums for the invocation's four columns.
fn add_lower_rows(sums: ptr<function, mat4x4<f32>>, own: vec4<f32>, w: mat4x4<f32>) {
  *sums += mat4x4(
    subgroupBroadcast(own, 0u) * w,
    subgroupBroadcast(own, 1u) * w,
    subgroupBroadcast(own, 2u) * w,
    subgroupBroadcast(own, 3u) * w,
  );
}

/// The same with the rows of lanes 4–7.
fn add_upper_rows(sums: ptr<function, mat4x4<f32>>, own: vec4<f32>, w: mat4x4<f32>) {
  *sums += mat4x4(
    subgroupBroadcast(own, 4u) * w,
    subgroupBroadcast(own, 5u) * w,
    subgroupBroadcast(own, 6u) * w,
    subgroupBroadcast(own, 7u) * w,
  );
}

// Looping over the columns to a bound that is no constant: compilers that unroll loops would have 64 stores to compile.
fn store_rows(sums: mat4x4<f32>, row: u32, column: u32, out_base: u32) {
  for (var i = 0u; i < 4u; i++) {
    if (row + i < params.rows) {
      for (var c = column; c < min(column + 4u * SUBGROUP, params.columns); c += SUBGROUP) {
        out[out_base + (row + i) * params.out_row_stride + c] = sums[i][(c - column) / SUBGROUP];
      }
    }
  }
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.x * 2u * SUBGROUP;
  let column0 = group.y * 4u * SUBGROUP + lane;
  // Rows and columns past the end read the last one and are not stored.
  let last_row = params.rows - 1u;
  let last_column = params.columns - 1u;
  let x_base = params.x_offset + batch * params.x_batch_stride;
  let x_a = (x_base + min(row0 + lane, last_row) * params.x_row_stride) / 4u;
  let x_b = (x_base + min(row0 + SUBGROUP + lane, last_row) * params.x_row_stride) / 4u;
  let weight_base = params.weight_offset + (batch / params.weight_group) * params.weight_batch_stride;
  let w_0 = (weight_base + min(column0, last_column) * params.weight_column_stride) / 4u;
  let w_1 = (weight_base + min(column0 + SUBGROUP, last_column) * params.weight_column_stride) / 4u;
  let w_2 = (weight_base + min(column0 + 2u * SUBGROUP, last_column) * params.weight_column_stride) / 4u;
  let w_3 = (weight_base + min(column0 + 3u * SUBGROUP, last_column) * params.weight_column_stride) / 4u;
  var a_lower: mat4x4<f32>;
  var a_upper: mat4x4<f32>;
  var b_lower: mat4x4<f32>;
  var b_upper: mat4x4<f32>;
  for (var d = 0u; d < params.depth / 4u; d++) {
    let w = mat4x4(
      load_weight(w_0 + d),
      load_weight(w_1 + d),
      load_weight(w_2 + d),
      load_weight(w_3 + d),
    );
    let a = load_x(x_a + d);
    let b = load_x(x_b + d);
    add_lower_rows(&a_lower, a, w);
    add_lower_rows(&b_lower, b, w);
    if (SUBGROUP == 8u) {
      add_upper_rows(&a_upper, a, w);
      add_upper_rows(&b_upper, b, w);
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
  // A second round over what this invocation stored, as a loop: the epilogue inlined for every sum takes seconds to compile.
  for (var row = row0; row < min(row0 + 2u * SUBGROUP, params.rows); row++) {
    for (var column = column0; column < min(column0 + 4u * SUBGROUP - lane, params.columns); column += SUBGROUP) {
      let index = out_base + row * params.out_row_stride + column;
      out[index] = finish(out[index], row, column);
    }
  }
}
