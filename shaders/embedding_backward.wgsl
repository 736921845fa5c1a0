// dtable[v] = scale · Σ dout[n] over the rows n with id(n) = v, in the order of n; rows that no id names are left as they are
//
// in:  ids as in embedding.wgsl; dout [rows, columns] f32, rows `grad_stride` apart from `grad_offset` on (in Elem)
// out: dtable [table_rows, columns] f32: the rows [row_start, row_start + table_rows) of the whole [V, C]
// One workgroup: 64 columns of one row n. It goes on only if no earlier row has the same id, and then adds up all that have:
// each element is written once, without atomics, at a cost of rows² comparisons whatever V is.
// Workgroup memory: 0 bytes.
// Preconditions: dtable was filled with zeros; workgroups are (⌈columns / 64⌉, rows).

struct Params {
  rows: u32,
  columns: u32,
  id_stride: u32,
  id_offset: u32,
  id_shift: u32,
  skip_inactive: u32,
  row_start: u32,
  table_rows: u32,
  grad_offset: u32,
  grad_stride: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> dout: array<Elem>;
@group(0) @binding(2) var<storage, read_write> dtable: array<Elem>;
@group(0) @binding(3) var<uniform> params: Params;

const INACTIVE: u32 = 0xffffffffu;

fn token_of(row: u32) -> u32 {
  let at = row * params.id_stride;
  let token = ids[at + params.id_offset];
  let inactive = params.skip_inactive != 0u && ids[at] == INACTIVE;
  return select(token + params.id_shift, INACTIVE, inactive || token == INACTIVE);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
  let row = group.y;
  let column = group.x * 64u + local_index;
  let token = token_of(row);
  if (token < params.row_start || token - params.row_start >= params.table_rows || column >= params.columns) {
    return;
  }
  for (var m = 0u; m < row; m++) {
    if (token_of(m) == token) {
      return;
    }
  }
  var sum = Elem(0.0);
  for (var m = row; m < params.rows; m++) {
    if (token_of(m) == token) {
      sum += dout[params.grad_offset + m * params.grad_stride + column];
    }
  }
  dtable[(token - params.row_start) * params.columns + column] = sum * params.scale;
}
