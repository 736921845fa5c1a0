// Each row of tokens is a tile of its own; row_table [N]: (slot, position).

@group(0) @binding(5) var<storage, read> row_table: array<vec2<u32>>;

fn row_tile(index: u32) -> Tile {
  let entry = row_table[index];
  return paged_tile(index, 1u, entry.x, entry.y, 0u);
}
