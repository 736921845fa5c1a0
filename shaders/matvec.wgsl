// out[n, c] = act(Σ_d norm(x)[n, d] · weight[c, d] + bias[c]) + residual[n, c]
// or, GATED: out[n, c] = act(gate) · up + residual[n, c], gate and up being the sums for weight rows c and columns + c
//
// in:  x [N, depth], weight [columns, depth] or, GATED, [2 · columns, depth], bias (one a weight row), residual [N, columns],
//      and what the linked norm binds (lib/matvec_norm_*.wgsl)
// out: out [N, columns] f32, sums in f32
// One workgroup: four weight rows (GATED: two gates and their ups) times X_ROWS rows of x. Invocations share the depth.
// Workgroup memory: what the linked reduction takes.
// Preconditions: depth, x offset and stride are multiples of 4. For few rows of x: each weight is read ⌈N / X_ROWS⌉ times.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// The four weight rows of a workgroup are neighbours.
const ROW_STEP: u32 = 1u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  // x and z together count the weight's rows: large vocabularies need more workgroups than one dimension has.
  let first = (group.z * groups.x + group.x) * OUTPUTS;
  let n0 = group.y * X_ROWS;
  let row0 = weight_row(first, 0u) * params.depth4;
  let row1 = weight_row(first, 1u) * params.depth4;
  let row2 = weight_row(first, 2u) * params.depth4;
  let row3 = weight_row(first, 3u) * params.depth4;
  var x_base: array<u32, X_ROWS>;
  var statistics: array<vec2<f32>, X_ROWS>;
  var sums: array<vec4<f32>, X_ROWS>;
  for (var n = 0u; n < X_ROWS; n++) {
    x_base[n] = params.x_offset4 + min(n0 + n, params.x_rows - 1u) * params.x_row_stride4;
    statistics[n] = norm_statistics(x_base[n], lane);
  }
  for (var d = lane; d < params.depth4; d += WORKGROUP_SIZE) {
    let w0 = load_weight(row0 + d);
    let w1 = load_weight(row1 + d);
    let w2 = load_weight(row2 + d);
    let w3 = load_weight(row3 + d);
    for (var n = 0u; n < X_ROWS; n++) {
      let value = normalise(x[x_base[n] + d], d, statistics[n]);
      sums[n] += vec4(dot(w0, value), dot(w1, value), dot(w2, value), dot(w3, value));
    }
  }
  for (var n = 0u; n < X_ROWS; n++) {
    let total = workgroup_sum_vec4(sums[n], lane);
    if (lane < OUTPUTS && first + lane < params.columns && n0 + n < params.x_rows) {
      store(total, n0 + n, first, lane);
    }
  }
}
