// Reductions over a workgroup by a tree in workgroup memory: for devices without subgroups.
//
// The linking kernel has `const` or `override WORKGROUP_SIZE: u32` (any size, not only powers of two) and calls these
// functions in uniform control flow, every invocation with its own `local_index` in [0, WORKGROUP_SIZE). All get the
// same result, and the compiler knows it as uniform. The order of the additions depends on WORKGROUP_SIZE alone.
// Workgroup memory: 4 bytes an invocation for the scalar functions, 16 for the vec4 ones; only what is called counts.

var<workgroup> reduce_scratch: array<f32, WORKGROUP_SIZE>;
var<workgroup> reduce_scratch_vec4: array<vec4<f32>, WORKGROUP_SIZE>;

fn workgroup_sum(value: f32, local_index: u32) -> f32 {
  reduce_scratch[local_index] = value;
  for (var width = WORKGROUP_SIZE; width > 1u; width = (width + 1u) / 2u) {
    // The values of this level are written before they are read.
    workgroupBarrier();
    if (local_index < width / 2u) {
      reduce_scratch[local_index] += reduce_scratch[local_index + (width + 1u) / 2u];
    }
  }
  // Holds a barrier before and after the load: the scratch may be written again at once.
  return workgroupUniformLoad(&reduce_scratch[0]);
}

fn workgroup_max(value: f32, local_index: u32) -> f32 {
  reduce_scratch[local_index] = value;
  for (var width = WORKGROUP_SIZE; width > 1u; width = (width + 1u) / 2u) {
    // The values of this level are written before they are read.
    workgroupBarrier();
    if (local_index < width / 2u) {
      reduce_scratch[local_index] = max(reduce_scratch[local_index], reduce_scratch[local_index + (width + 1u) / 2u]);
    }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

// Four independent sums for the barriers of one.
fn workgroup_sum_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  reduce_scratch_vec4[local_index] = value;
  for (var width = WORKGROUP_SIZE; width > 1u; width = (width + 1u) / 2u) {
    // The values of this level are written before they are read.
    workgroupBarrier();
    if (local_index < width / 2u) {
      reduce_scratch_vec4[local_index] += reduce_scratch_vec4[local_index + (width + 1u) / 2u];
    }
  }
  return workgroupUniformLoad(&reduce_scratch_vec4[0]);
}

// Four independent maxima for the barriers of one.
fn workgroup_max_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  reduce_scratch_vec4[local_index] = value;
  for (var width = WORKGROUP_SIZE; width > 1u; width = (width + 1u) / 2u) {
    // The values of this level are written before they are read.
    workgroupBarrier();
    if (local_index < width / 2u) {
      reduce_scratch_vec4[local_index] =
        max(reduce_scratch_vec4[local_index], reduce_scratch_vec4[local_index + (width + 1u) / 2u]);
    }
  }
  return workgroupUniformLoad(&reduce_scratch_vec4[0]);
}
