// Keeps each row's log-sum-exp (natural log), for backward and for rebuilding the weights.

@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

fn keep_lse(row: u32, value: f32) {
  lse[row] = value;
}
