// A workgroup saw one split of its row's keys: attention_decode_combine.wgsl joins the splits.
//
// shares [rows, splits, Dv] before division by the sum; share_stats [rows, splits]: (largest score · log2 e, sum).

@group(0) @binding(7) var<storage, read_write> shares: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> share_stats: array<vec2<f32>>;

fn store_columns(tile: Tile, head: u32, split: u32, column: u32, total: vec4<f32>, sum: f32) {
  shares[(row_index(tile, head, 0u) * params.splits + split) * params.value_columns + column] = total;
}

fn store_row(tile: Tile, head: u32, split: u32, largest: f32, sum: f32) {
  share_stats[row_index(tile, head, 0u) * params.splits + split] = vec2<f32>(largest, sum);
}
