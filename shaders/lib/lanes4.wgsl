// What each of 4 lanes holds, for every lane: for subgroups of 4 invocations, on CPU adapters.

const SUBGROUP: u32 = 4u;

alias Lanes = array<vec4<f32>, 4>;

fn every_lane(x: vec4<f32>) -> Lanes {
  return Lanes(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}

fn lower_lanes(x: f32) -> vec4<f32> {
  return vec4<f32>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}

// There are none.
fn upper_lanes(x: f32) -> vec4<f32> {
  return vec4<f32>(0.0);
}
