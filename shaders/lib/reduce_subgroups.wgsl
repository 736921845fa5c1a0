// Reductions over a workgroup by subgroup operations and one exchange in workgroup memory: two barriers each.
//
// Same functions and contract as reduce_core.wgsl; the composed text needs `enable subgroups;`. Any subgroup size, and
// any assignment of invocations to subgroups: WGSL promises neither that subgroups are runs of `local_index` nor that
// the last one is full, so a subgroup is named by the smallest `local_index` in it and lanes are counted.
// Workgroup memory: 4 bytes an invocation for the scalar functions, 16 for the vec4 ones; only what is called counts.

var<workgroup> reduce_scratch: array<f32, WORKGROUP_SIZE>;
var<workgroup> reduce_scratch_vec4: array<vec4<f32>, WORKGROUP_SIZE>;

const REDUCE_LOWEST: f32 = -3.4028234e38;

fn workgroup_sum(value: f32, local_index: u32) -> f32 {
  let total = subgroupAdd(value);
  let lane = subgroupExclusiveAdd(1u);
  let lanes = subgroupAdd(1u);
  reduce_scratch[local_index] = select(0.0, total, subgroupMin(local_index) == local_index);
  // Every subgroup's total is written before it is read.
  workgroupBarrier();
  var share = 0.0;
  for (var i = lane; i < WORKGROUP_SIZE; i += lanes) {
    share += reduce_scratch[i];
  }
  let sum = subgroupAdd(share);
  // Every total is read before slot 0 is written with the result.
  workgroupBarrier();
  if (local_index == 0u) {
    reduce_scratch[0] = sum;
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

fn workgroup_max(value: f32, local_index: u32) -> f32 {
  let largest = subgroupMax(value);
  let lane = subgroupExclusiveAdd(1u);
  let lanes = subgroupAdd(1u);
  reduce_scratch[local_index] = largest;
  // Every subgroup's maximum is written before it is read.
  workgroupBarrier();
  var share = REDUCE_LOWEST;
  for (var i = lane; i < WORKGROUP_SIZE; i += lanes) {
    share = max(share, reduce_scratch[i]);
  }
  let result = subgroupMax(share);
  // Every maximum is read before slot 0 is written with the result.
  workgroupBarrier();
  if (local_index == 0u) {
    reduce_scratch[0] = result;
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

// Four independent sums for the barriers of one.
fn workgroup_sum_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  let total = subgroupAdd(value);
  let lane = subgroupExclusiveAdd(1u);
  let lanes = subgroupAdd(1u);
  reduce_scratch_vec4[local_index] = select(vec4<f32>(0.0), total, subgroupMin(local_index) == local_index);
  // Every subgroup's total is written before it is read.
  workgroupBarrier();
  var share = vec4<f32>(0.0);
  for (var i = lane; i < WORKGROUP_SIZE; i += lanes) {
    share += reduce_scratch_vec4[i];
  }
  let sum = subgroupAdd(share);
  // Every total is read before slot 0 is written with the result.
  workgroupBarrier();
  if (local_index == 0u) {
    reduce_scratch_vec4[0] = sum;
  }
  return workgroupUniformLoad(&reduce_scratch_vec4[0]);
}

// Four independent maxima for the barriers of one.
fn workgroup_max_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  let largest = subgroupMax(value);
  let lane = subgroupExclusiveAdd(1u);
  let lanes = subgroupAdd(1u);
  reduce_scratch_vec4[local_index] = largest;
  // Every subgroup's maximum is written before it is read.
  workgroupBarrier();
  var share = vec4<f32>(REDUCE_LOWEST);
  for (var i = lane; i < WORKGROUP_SIZE; i += lanes) {
    share = max(share, reduce_scratch_vec4[i]);
  }
  let result = subgroupMax(share);
  // Every maximum is read before slot 0 is written with the result.
  workgroupBarrier();
  if (local_index == 0u) {
    reduce_scratch_vec4[0] = result;
  }
  return workgroupUniformLoad(&reduce_scratch_vec4[0]);
}
