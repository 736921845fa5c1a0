// Rows of 8 queries for every invocation: q, dout and (lse · log₂ e, dots); see block_subgroup8.wgsl, which this goes with.

fn load_q8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(load_q(first + min(lane, spare) * params.q_row, column));
}

fn load_dout8(first: u32, spare: u32, lane: u32, column: u32) -> Block {
  return share8(dout[first + min(lane, spare) * params.dout_row + column]);
}

fn row_stats8(first: u32, spare: u32, lane: u32) -> Block {
  return share8(row_stats(first + min(lane, spare)).xyxy);
}
