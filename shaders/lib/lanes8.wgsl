// What each of 8 lanes holds, for every lane: for subgroups of 8 invocations, on CPU adapters.

const SUBGROUP: u32 = 8u;

alias Lanes = array<vec4<f32>, 8>;

fn every_lane(x: vec4<f32>) -> Lanes {
  return Lanes(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u),
    subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}

// Of lanes 0–3.
fn lower_lanes(x: f32) -> vec4<f32> {
  return vec4<f32>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}

// Of lanes 4–7.
fn upper_lanes(x: f32) -> vec4<f32> {
  return vec4<f32>(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}
