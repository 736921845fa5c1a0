// out[t, c] = (x[t, c] − mean) / √(var + eps) · weight[c] + bias[c], mean and var over all of x
//
// in:  x [rows, columns] f32; weight, bias [columns] f32
// out: out [rows, columns] f32
// One workgroup for all: sums of rows first, then of those, so that long inputs lose few digits.
// Workgroup memory: 1 kB.
// Preconditions: dispatched once.
// Source: Wu and He, "Group Normalization" (2018), eq. 1, 2 and 7, with one group.

struct Params {
  rows: u32,
  columns: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

const SIZE: u32 = 256u;
var<workgroup> partial: array<f32, SIZE>;

fn sum_of_all(value: f32, local: u32) -> f32 {
  // Nobody still reads the sums of the call before.
  workgroupBarrier();
  partial[local] = value;
  for (var half = SIZE / 2u; half > 0u; half /= 2u) {
    // The sums of the last halving are written.
    workgroupBarrier();
    if (local < half) {
      partial[local] += partial[local + half];
    }
  }
  // The whole sum is written.
  workgroupBarrier();
  return partial[0];
}

@compute @workgroup_size(SIZE)
fn main(@builtin(local_invocation_index) local: u32) {
  let count = f32(params.rows) * f32(params.columns);
  var sum = 0.0;
  for (var t = local; t < params.rows; t += SIZE) {
    var row = 0.0;
    for (var c = 0u; c < params.columns; c++) {
      row += x[t * params.columns + c];
    }
    sum += row;
  }
  let mean = sum_of_all(sum, local) / count;
  var squares = 0.0;
  for (var t = local; t < params.rows; t += SIZE) {
    var row = 0.0;
    for (var c = 0u; c < params.columns; c++) {
      let v = x[t * params.columns + c] - mean;
      row += v * v;
    }
    squares += row;
  }
  let rstd = inverseSqrt(sum_of_all(squares, local) / count + params.eps);
  for (var i = local; i < params.rows * params.columns; i += SIZE) {
    let c = i % params.columns;
    out[i] = (x[i] - mean) * rstd * weight[c] + bias[c];
  }
}
