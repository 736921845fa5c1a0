// Rows of 8 queries for every invocation, which loads them all: q, dout and (lse · log₂ e, dots); goes with block_alone.wgsl.

fn load_q8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  let r = params.q_row;
  return Block(load_q(first, column), load_q(first + min(1u, spare) * r, column),
    load_q(first + min(2u, spare) * r, column), load_q(first + min(3u, spare) * r, column),
    load_q(first + min(4u, spare) * r, column), load_q(first + min(5u, spare) * r, column),
    load_q(first + min(6u, spare) * r, column), load_q(first + min(7u, spare) * r, column));
}

fn load_dout8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  let r = params.dout_row;
  let at = first + column;
  return Block(dout[at], dout[at + min(1u, spare) * r], dout[at + min(2u, spare) * r], dout[at + min(3u, spare) * r],
    dout[at + min(4u, spare) * r], dout[at + min(5u, spare) * r], dout[at + min(6u, spare) * r], dout[at + min(7u, spare) * r]);
}

fn row_stats8(first: u32, spare: u32, lane: u32) -> Block {
  return Block(row_stats(first).xyxy, row_stats(first + min(1u, spare)).xyxy,
    row_stats(first + min(2u, spare)).xyxy, row_stats(first + min(3u, spare)).xyxy,
    row_stats(first + min(4u, spare)).xyxy, row_stats(first + min(5u, spare)).xyxy,
    row_stats(first + min(6u, spare)).xyxy, row_stats(first + min(7u, spare)).xyxy);
}
