// The log-sum-exp of a row of scores from the maxima and sums of its invocations, where attention has saved none.
// Called in uniform control flow.

fn row_lse(row: u32, head: u32, largest: f32, sum: f32, local: u32) -> f32 {
  let row_largest = workgroup_max(largest, local);
  let row_sum = workgroup_sum(sum * exp(largest - row_largest), local);
  return select(MASKED, row_largest + log(row_sum), row_sum > 0.0);
}
