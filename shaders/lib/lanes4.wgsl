// What each of 4 lanes holds, for every lane: for subgroups of 4 invocations, on CPU adapters.

const SUBGROUP: u32 = 4u;

fn vec4_of_lanes(x: vec4<f32>) -> array<vec4<f32>, 4> {
  return array<vec4<f32>, 4>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u),
    subgroupBroadcast(x, 3u));
}

fn f32_of_lanes(x: f32) -> array<f32, 4> {
  return array<f32, 4>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u),
    subgroupBroadcast(x, 3u));
}
