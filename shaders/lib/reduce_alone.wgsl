// The reductions of reduce_core.wgsl where each invocation has a row of its own, so that there is nothing to combine.
// For CPU adapters: on lavapipe a barrier costs more than the loads of a whole row.

fn workgroup_sum(value: f32, local_index: u32) -> f32 {
  return value;
}

fn workgroup_max(value: f32, local_index: u32) -> f32 {
  return value;
}
