// out = Σ_i 2^(m_i − m) o_i / Σ_i 2^(m_i − m) l_i over the splits i of a row's keys, with m = max_i m_i.
//
// in:  shares [rows, splits, Dv], share_stats [rows, splits]: (m, l), from attention_decode.wgsl
// out: out [row, head, Dv], lse if asked for, as the addressing part says
// One workgroup: WORKGROUP_SIZE vec4 columns of one row's heads (z: row). One invocation: one vec4 of out.
// Workgroup memory: 0 bytes.
// Preconditions: the splits up to the row's last key are written.
// Source: "Flash-Decoding for long-context inference" (2023).

override WORKGROUP_SIZE: u32 = 64u;

const LN_2: f32 = 0.6931471805599453;

@group(0) @binding(7) var<storage, read> shares: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> share_stats: array<vec2<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = group.x * WORKGROUP_SIZE + local;
  let head = i / params.value_columns;
  let column = i % params.value_columns;
  if (head >= params.heads) {
    return;
  }
  let tile = row_tile(group.z);
  let row = row_index(tile, head, 0u);
  let first = mask_begin(tile.position) / params.split_keys;
  let end = (mask_end(tile.position, tile.keys, tile.prefix) + params.split_keys - 1u) / params.split_keys;
  var largest = MASKED;
  for (var split = first; split < end; split++) {
    largest = max(largest, share_stats[row * params.splits + split].x);
  }
  var total = vec4<f32>(0.0);
  var sum = 0.0;
  for (var split = first; split < end; split++) {
    let at = row * params.splits + split;
    let weight = exp2(share_stats[at].x - largest);
    total = fma(vec4<f32>(weight), shares[at * params.value_columns + column], total);
    sum = fma(weight, share_stats[at].y, sum);
  }
  store_out(out_at(tile, head, 0u), column, select(vec4<f32>(0.0), total / sum, sum > 0.0));
  if (column == 0u) {
    keep_lse(row, select(MASKED, (largest + log2(sum)) * LN_2, sum > 0.0));
  }
}
