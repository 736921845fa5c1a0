// One workgroup saw all keys of its row: the result is final.

fn store_columns(tile: Tile, head: u32, split: u32, column: u32, total: vec4<f32>, sum: f32) {
  store_out(out_at(tile, head, 0u), column, select(vec4<f32>(0.0), total / sum, sum > 0.0));
}

fn store_row(tile: Tile, head: u32, split: u32, largest: f32, sum: f32) {
  keep_lse(row_index(tile, head, 0u), select(MASKED, (largest + log2(sum)) * LN_2, sum > 0.0));
}
