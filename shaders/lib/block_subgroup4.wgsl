// Rows of a block of 8 keys for every invocation: each loads two, and the first four lanes of the subgroup hand theirs
// to all. Needs `enable subgroups;` and a workgroup that fills at least 4 lanes of each subgroup; see block_subgroup8.wgsl.
// Rows past `spare` repeat row `spare`.

alias Block = array<vec4<f32>, 8>;

// Blocks that the backward kernels take at a turn.
const TURN_BLOCKS: u32 = 2u;

// The row of each half of the block that this invocation loads.
fn block_lane() -> u32 {
  return subgroupExclusiveAdd(1u) & 3u;
}

fn share8(x: vec4<f32>, y: vec4<f32>) -> Block {
  return Block(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u),
    subgroupBroadcast(y, 0u), subgroupBroadcast(y, 1u), subgroupBroadcast(y, 2u), subgroupBroadcast(y, 3u));
}

fn load_k8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(load_k(first + min(lane, spare) * params.k_row, column), load_k(first + min(lane + 4u, spare) * params.k_row, column));
}

fn load_v8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(load_v(first + min(lane, spare) * params.v_row, column), load_v(first + min(lane + 4u, spare) * params.v_row, column));
}
