// Rows of a block of 8 keys for every invocation: each loads all of them. For devices without subgroups.
// Rows past `spare` repeat row `spare`.

alias Block = array<vec4<f32>, 8>;

// Blocks that the backward kernels take at a turn: the loads of 16 rows would take long to compile.
const TURN_BLOCKS: u32 = 1u;

fn block_lane() -> u32 {
  return 0u;
}

fn load_k8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  let r = params.k_row;
  return Block(load_k(first, column), load_k(first + min(1u, spare) * r, column),
    load_k(first + min(2u, spare) * r, column), load_k(first + min(3u, spare) * r, column),
    load_k(first + min(4u, spare) * r, column), load_k(first + min(5u, spare) * r, column),
    load_k(first + min(6u, spare) * r, column), load_k(first + min(7u, spare) * r, column));
}

fn load_v8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  let r = params.v_row;
  return Block(load_v(first, column), load_v(first + min(1u, spare) * r, column),
    load_v(first + min(2u, spare) * r, column), load_v(first + min(3u, spare) * r, column),
    load_v(first + min(4u, spare) * r, column), load_v(first + min(5u, spare) * r, column),
    load_v(first + min(6u, spare) * r, column), load_v(first + min(7u, spare) * r, column));
}
