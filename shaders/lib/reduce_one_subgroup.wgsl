// The reductions of reduce_core.wgsl for a workgroup that is one subgroup: no barrier, no workgroup memory.
// Precondition: WORKGROUP_SIZE is at most the device's smallest subgroup.

fn workgroup_sum_vec4(value: vec4<f32>, local_index: u32) -> vec4<f32> {
  return subgroupAdd(value);
}
