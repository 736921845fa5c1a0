// losses[n] = (1 − ε) · w[t] · (lse[n] − x[n, t]) + ε / V · Σ_v w[v] · (lse[n] − x[n, v]),  lse[n] = log Σ_v exp(x[n, v]),
// x the logits, t the row's target; 0 where the target is ignored
//
// in:  logits [rows, vocabulary] f32 (in Elem: f32 or vec4<f32>); row n begins at `offset + n / inner · row_stride + n % inner`,
//      its entries are `inner` apart
//      where `log_probs` is 1 they are logarithms of probabilities already, and lse is 0
//      targets [rows] i32; `ignored`, and a target outside [0, vocabulary), is ignored
//      weights [vocabulary] f32, read where `has_weights` is 1 (else any buffer, and w is 1)
// out: losses, counts, lse [rows] f32; counts[n] = w[t], 0 where ignored
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE; Elem is f32 where inner is not 1 or there are weights.
// Source of the smoothing: Szegedy et al., "Rethinking the Inception Architecture" (2016), §7.

struct Params {
  rows: u32,
  vocabulary: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  inner: u32,
  ignored: i32,
  has_weights: u32,
  log_probs: u32,
  smoothing: f32,
}

@group(0) @binding(0) var<storage, read> logits: array<Elem>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read> weights: array<Elem>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> counts: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local_index: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local_index / ROW_LANES;
  let lane = local_index % ROW_LANES;
  // Surplus rows do the work of the last one: an early return would stand before the reduction's barriers.
  let row = min(index, params.rows - 1u);
  let start = params.offset + row / params.inner * params.row_stride + row % params.inner;

  var largest = -3.4e38;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    largest = max(largest, elem_max(logits[start + c * params.inner]));
  }
  let highest = workgroup_max(largest, local_index);
  var sum = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    sum += elem_sum(exp(logits[start + c * params.inner] - highest));
  }
  let row_lse = select(highest + log(workgroup_sum(sum, local_index)), 0.0, params.log_probs != 0u);
  var spread = 0.0;
  if (params.smoothing > 0.0) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      var terms = row_lse - logits[start + c * params.inner];
      if (params.has_weights != 0u) {
        terms *= weights[c];
      }
      spread += elem_sum(terms);
    }
  }
  let smoothed = workgroup_sum(spread, local_index) * params.smoothing / f32(params.vocabulary);
  if (lane == 0u && index < params.rows) {
    lse[row] = row_lse;
    let label = targets[row];
    var loss = 0.0;
    var count = 0.0;
    if (label != params.ignored && label >= 0 && u32(label) < params.vocabulary) {
      let target_logit = elem_at(logits[start + u32(label) / ELEM_WIDTH * params.inner], u32(label) % ELEM_WIDTH);
      count = 1.0;
      if (params.has_weights != 0u) {
        count = elem_at(weights[u32(label) / ELEM_WIDTH], u32(label) % ELEM_WIDTH);
      }
      loss = (1.0 - params.smoothing) * count * (row_lse - target_logit) + smoothed;
    }
    losses[row] = loss;
    counts[row] = count;
  }
}
