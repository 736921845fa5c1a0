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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

/// Products of one column's w with the rows that lanes 0–3 hold.
fn lower_rows(w: vec4<f32>, own: vec4<f32>) -> vec4<f32> {
  return vec4(
    dot(w, subgroupBroadcast(own, 0u)),
    dot(w, subgroupBroadcast(own, 1u)),
    dot(w, subgroupBroadcast(own, 2u)),
    dot(w, subgroupBroadcast(own, 3u)),
  );
}

/// The same with the rows of lanes 4–7.
fn upper_rows(w: vec4<f32>, own: vec4<f32>) -> vec4<f32> {
  return vec4(
    dot(w, subgroupBroadcast(own, 4u)),
    dot(w, subgroupBroadcast(own, 5u)),
    dot(w, subgroupBroadcast(own, 6u)),
    dot(w, subgroupBroadcast(own, 7u)),
  );
}

struct Sums {
  a_lower: vec4<f32>,
  a_upper: vec4<f32>,
  b_lower: vec4<f32>,
  b_upper: vec4<f32>,
}

fn accumulate(sums: ptr<function, Sums>, w: vec4<f32>, a: vec4<f32>, b: vec4<f32>) {
  (*sums).a_lower += lower_rows(w, a);
  (*sums).b_lower += lower_rows(w, b);
  if (SUBGROUP == 8u) {
    (*sums).a_upper += upper_rows(w, a);
    (*sums).b_upper += upper_rows(w, b);
  }
}

fn store_rows(sums: vec4<f32>, row: u32, column: u32, out_base: u32) {
  for (var i = 0u; i < 4u; i++) {
    if (row + i < params.rows && column < params.columns) {
      out[out_base + (row + i) * params.out_row_stride + column] = sums[i];
    }
  }
}

fn store_column(sums: Sums, row: u32, column: u32, out_base: u32) {
  store_rows(sums.a_lower, row, column, out_base);
  store_rows(sums.b_lower, row + SUBGROUP, column, out_base);
  if (SUBGROUP == 8u) {
    store_rows(sums.a_upper, row + 4u, column, out_base);
    store_rows(sums.b_upper, row + 12u, column, out_base);
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
  var sums_0: Sums;
  var sums_1: Sums;
  var sums_2: Sums;
  var sums_3: Sums;
  for (var d = 0u; d < params.depth / 4u; d++) {
    let a = x[x_a + d];
    let b = x[x_b + d];
    accumulate(&sums_0, unpack_weight(weight[w_0 + d]), a, b);
    accumulate(&sums_1, unpack_weight(weight[w_1 + d]), a, b);
    accumulate(&sums_2, unpack_weight(weight[w_2 + d]), a, b);
    accumulate(&sums_3, unpack_weight(weight[w_3 + d]), a, b);
  }
  let out_base = params.out_offset + batch * params.out_batch_stride;
  store_column(sums_0, row0, column0, out_base);
  store_column(sums_1, row0, column0 + SUBGROUP, out_base);
  store_column(sums_2, row0, column0 + 2u * SUBGROUP, out_base);
  store_column(sums_3, row0, column0 + 3u * SUBGROUP, out_base);
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
