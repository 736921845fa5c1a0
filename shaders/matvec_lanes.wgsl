// out[n, c] = act(Σ_d x[n, d] · weight[c, d] + bias[c]) + residual[n, c]
// or, GATED: out[n, c] = act(gate) · up + residual[n, c], gate and up being the sums for weight rows c and columns + c
//
// in:  x [N, depth], weight [columns, depth] or, GATED, [2 · columns, depth], bias (one a weight row), residual [N, columns]
// out: out [N, columns] f32, sums in f32
// One workgroup: 4 · WORKGROUP_SIZE weight rows times X_ROWS rows of x. One invocation: four of the rows over all of the depth.
// Workgroup memory: 0 bytes. For CPU adapters: they load each lane's weights one by one wherever those lie, and x, the
// same for all lanes, once; there is no sum over lanes, and 32 rows are read at once, which hides the memory's latency:
// 3.9 GB/s a core on lavapipe where matvec.wgsl, sharing the depth, reads 3.5.
// Preconditions: depth, x offset and stride are multiples of 4. For few rows of x: each weight is read ⌈N / X_ROWS⌉ times.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Neighbours in the workgroup have neighbouring weight rows.
const ROW_STEP: u32 = WORKGROUP_SIZE;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (group.z * groups.x + group.x) * OUTPUTS * WORKGROUP_SIZE + lane;
  let n0 = group.y * X_ROWS;
  let row0 = weight_row(first, 0u) * params.depth4;
  let row1 = weight_row(first, 1u) * params.depth4;
  let row2 = weight_row(first, 2u) * params.depth4;
  let row3 = weight_row(first, 3u) * params.depth4;
  var x_base: array<u32, X_ROWS>;
  var sums: array<vec4<f32>, X_ROWS>;
  for (var n = 0u; n < X_ROWS; n++) {
    x_base[n] = params.x_offset4 + min(n0 + n, params.x_rows - 1u) * params.x_row_stride4;
  }
  for (var d = 0u; d < params.depth4; d++) {
    let w0 = load_weight(row0 + d);
    let w1 = load_weight(row1 + d);
    let w2 = load_weight(row2 + d);
    let w3 = load_weight(row3 + d);
    for (var n = 0u; n < X_ROWS; n++) {
      let value = x[x_base[n] + d];
      sums[n] += vec4(dot(w0, value), dot(w1, value), dot(w2, value), dot(w3, value));
    }
  }
  // The bound is no constant: compilers that unroll loops would have the epilogue several times to compile.
  let outputs = min(OUTPUTS, (max(params.columns, first) - first + ROW_STEP - 1u) / ROW_STEP);
  for (var n = 0u; n < min(X_ROWS, params.x_rows - n0); n++) {
    for (var i = 0u; i < outputs; i++) {
      store(sums[n], n0 + n, first, i);
    }
  }
}
