// Rows of a block of 8 keys for every invocation: each loads one, and the first eight lanes of the subgroup hand theirs
// to all. Needs `enable subgroups;`, subgroups of at least 8, and a workgroup that fills at least 8 lanes of each.
// On lavapipe a load is worth 40 multiply-adds of a vec4, a broadcast less than one: 6 times faster than block_alone.wgsl.
// Rows past `spare` repeat row `spare`.

alias Block = array<vec4<f32>, 8>;

// Blocks that the backward kernels take at a turn.
const TURN_BLOCKS: u32 = 2u;

// The row of the block that this invocation loads.
fn block_lane() -> u32 {
  return subgroupExclusiveAdd(1u) & 7u;
}

fn share8(x: vec4<f32>) -> Block {
  return Block(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u),
    subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}

fn load_k8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(load_k(first + min(lane, spare) * params.k_row, column));
}

fn load_v8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(load_v(first + min(lane, spare) * params.v_row, column));
}
