// kv[page(n), 0, h, position % 32] = k[n, h],  kv[page(n), 1, h, position % 32] = v[n, h]
// with page(n) = page_table[slot(n), position(n) / 32]
//
// in:  k, v [rows, heads · head_dim] f32 and row_table [rows] (slot, position) as kv_rows.wgsl says;
//      page_table [slots, max_pages]
// out: kv [pages, 2, heads, 32, head_dim] f32 or f16, in pairs of channels
// One invocation: two neighbouring channels of one key or value, so that f16 is stored whole words at a time.
// Workgroup memory: 0 bytes.
// Preconditions: head_dim is even; no two rows have the same slot and position. What has no page (kv_pages.wgsl) is not written.

@group(0) @binding(4) var<storage, read_write> kv: array<KvPair>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let pairs = params.heads * params.head_dim / 2u;
  let i = id.y * groups.x * 64u + id.x;
  let row = i / (2u * pairs);
  if (row >= params.rows) {
    return;
  }
  let entry = row_table[row];
  let page = page_of(entry);
  if (page == NO_PAGE) {
    return;
  }
  let part = i / pairs % 2u;
  let column = i % pairs * 2u;
  let token = token_of(page, part, column / params.head_dim, entry.y);
  kv[(token * params.head_dim + column % params.head_dim) / 2u] = pack_kv(channel_pair(part, row, column));
}
