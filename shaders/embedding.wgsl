// out[n] = table[id(n)] · scale,  id(n) = ids[n · id_stride + id_offset] + id_shift
//
// in:  ids [rows · id_stride] u32; with `skip_inactive` 1 it is a row table of (slot, position)
//      table [table_rows, columns] f32 or f16: the rows [row_start, row_start + table_rows) of the whole [V, C]
// out: out [rows, columns] f32, in elements of one weight load
// One invocation: one element of out.
// Workgroup memory: 0 bytes.
// Preconditions: dispatched once per row part of the table, each of which writes the rows whose id it holds; the one with
// `row_start` 0 also writes zeros for inactive rows and for ids ≥ V.

struct Params {
  rows: u32,
  columns: u32,
  id_stride: u32,
  id_offset: u32,
  id_shift: u32,
  skip_inactive: u32,
  row_start: u32,
  table_rows: u32,
  vocabulary: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<WeightVec4>;
@group(0) @binding(2) var<storage, read_write> out: array<Elem>;
@group(0) @binding(3) var<uniform> params: Params;

const INACTIVE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.columns) {
    return;
  }
  let row = i / params.columns;
  let at = row * params.id_stride;
  var token = ids[at + params.id_offset];
  // In a row table the slot tells, so that position −1 is the row before that of position 0.
  let inactive = select(token, ids[at], params.skip_inactive != 0u) == INACTIVE;
  token = select(token + params.id_shift, INACTIVE, inactive);
  if (token >= params.row_start && token - params.row_start < params.table_rows) {
    let source = (token - params.row_start) * params.columns + i % params.columns;
    out[i] = load_weight(source) * params.scale;
  } else if (params.row_start == 0u && token >= params.vocabulary) {
    out[i] = Elem(0.0);
  }
}
