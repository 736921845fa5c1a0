// Reductions over a workgroup in which every invocation adds up all values itself: two barriers and little code.
//
// Same functions and contract as reduce_core.wgsl, but for one thing: the compiler does not know the result as uniform.
// For CPU adapters, where code is what compiling costs and barriers are what running costs.
// Workgroup memory: 4 bytes an invocation for the scalar functions, 16 for the vec4 ones; only what is called counts.

var<workgroup> reduce_scratch: array<f32, WORKGROUP_SIZE>;
var<workgroup> reduce_scratch_vec4: array<vec4<f32>, WORKGROUP_SIZE>;

fn workgroup_sum(value: f32, local_index: u32) -> f32 {
  reduce_scratch[local_index] = value;
  // Every value is written before it is read.
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < WORKGROUP_SIZE; i++) {
    sum += reduce_scratch[i];
  }
  // Every value is read before the next reduction replaces it.
  workgroupBarrier();
  return sum;
}

fn workgroup_max(value: f32, local_index: u32) -> f32 {
  reduce_scratch[local_index] = value;
  // Every value is written before it is read.
  workgroupBarrier();
  var largest = value;
  for (var i = 0u; i < WORKGROUP_SIZE; i++) {
    largest = max(largest, reduce_scratch[i]);
  }
  // Every value is read before the next reduction replaces it.
  workgroupBarrier();
  return largest;
}

// Four independent sums for the barriers of one.
fn workgroup_sum_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  reduce_scratch_vec4[local_index] = value;
  // Every value is written before it is read.
  workgroupBarrier();
  var sum = vec4<f32>(0.0);
  for (var i = 0u; i < WORKGROUP_SIZE; i++) {
    sum += reduce_scratch_vec4[i];
  }
  // Every value is read before the next reduction replaces it.
  workgroupBarrier();
  return sum;
}

// Four independent maxima for the barriers of one.
fn workgroup_max_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  reduce_scratch_vec4[local_index] = value;
  // Every value is written before it is read.
  workgroupBarrier();
  var largest = value;
  for (var i = 0u; i < WORKGROUP_SIZE; i++) {
    largest = max(largest, reduce_scratch_vec4[i]);
  }
  // Every value is read before the next reduction replaces it.
  workgroupBarrier();
  return largest;
}
