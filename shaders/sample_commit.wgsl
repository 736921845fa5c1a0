// For each active row n: token = the best of its chunks (the first of equals); then
//   tokens[n] = token, the token's bit in seen is set, row_table[n].position += 1,
//   ring[4 + (step mod ring_steps) · rows + n] = token;  at the end ring[0] = step + 1
//
// in:  best [rows, chunks] (bits of an f32 score, token)
// out: row_table [rows] (slot, position); tokens [rows] u32; ring [4 + ring_steps · rows] u32; seen [slots, seen_words] u32
// One workgroup does all rows, so that the step is read before it is counted on. One invocation: every 64th row.
// Workgroup memory: 0 bytes.
// Preconditions: active rows have different slots; one workgroup.

struct Params {
  rows: u32,
  chunks: u32,
  slots: u32,
  seen_words: u32,
  ring_steps: u32,
}

@group(0) @binding(0) var<storage, read> best: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> row_table: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> ring: array<u32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<uniform> params: Params;

const RING_HEADER: u32 = 4u;

fn best_token(row: u32) -> u32 {
  var score = MASKED;
  var token = FAILED;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let entry = best[row * params.chunks + chunk];
    if (entry.y == FAILED) {
      return FAILED;
    }
    let candidate = bitcast<f32>(entry.x);
    if (candidate > score) {
      score = candidate;
      token = entry.y;
    }
  }
  return token;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  let step = ring[0];
  // Every invocation has read the step before it is written.
  storageBarrier();
  workgroupBarrier();
  if (lane == 0u) {
    ring[0] = step + 1u;
  }
  for (var row = lane; row < params.rows; row += 64u) {
    let entry = row_table[row];
    if (entry.x >= params.slots) {
      continue;
    }
    let token = best_token(row);
    tokens[row] = token;
    ring[RING_HEADER + step % params.ring_steps * params.rows + row] = token;
    row_table[row].y = entry.y + 1u;
    if (token != FAILED) {
      seen[entry.x * params.seen_words + token / 32u] |= 1u << (token % 32u);
    }
  }
}
