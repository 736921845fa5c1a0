// Tiles of a prefill chunk, from the host: (row start, row count, slot, first position), then (prefix, 0, 0, 0); none crosses
// sequences. The first `prefix` keys of a sequence are seen by all of its rows; the host gives a prefix in one chunk.

@group(0) @binding(5) var<storage, read> tile_table: array<vec4<u32>>;

fn tile_of(index: u32, batch: u32, size: u32) -> Tile {
  let entry = tile_table[2u * index];
  return paged_tile(entry.x, min(entry.y, size), entry.z, entry.w, tile_table[2u * index + 1u].x);
}
