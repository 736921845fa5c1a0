// The log-sum-exp of a row of scores as attention has saved it, lse [H, T].

@group(0) @binding(7) var<storage, read> lse: array<f32>;

fn row_lse(row: u32, head: u32, largest: f32, sum: f32, local: u32) -> f32 {
  return lse[head * params.queries + row];
}
