// Tiles of a prefill chunk, from the host: (row start, row count, slot, first position); none crosses sequences.

@group(0) @binding(5) var<storage, read> tile_table: array<vec4<u32>>;

fn tile_of(index: u32, batch: u32, size: u32) -> Tile {
  let entry = tile_table[index];
  return paged_tile(entry.x, min(entry.y, size), entry.z, entry.w, 0u);
}
