// dbias[b, h, i, j] = Σ dscores over the places of [B, H, T, S] that read this element of the bias.
//
// in:  dscores [B, H, T, S] f32
// out: dbias [B|1, H|1, T|1, S|1] f32; with `diagonals` [B|1, H|1, 1, T + S − 1], element r belonging to the scores of
//      j − i = r − (T − 1): the relative position bias
// One workgroup: 64 elements of dbias. One invocation: one element, its terms in order of b, h, i, j.
// Workgroup memory: 0 bytes.
// Preconditions: each axis of dbias is whole or 1; with `diagonals` out_queries is 1.
// Source: the transpose of a broadcast; T5's bias: Raffel et al. (2020), §2.1.

struct Params {
  batches: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  out_batches: u32,
  out_heads: u32,
  out_queries: u32,
  out_keys: u32,
  diagonals: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dscores: array<f32>;
@group(0) @binding(2) var<storage, read_write> dbias: array<f32>;

// First and end of an axis' places that read element `i` of an axis of `out` elements.
fn places(i: u32, out: u32, size: u32) -> vec2<u32> {
  return select(vec2<u32>(0u, size), vec2<u32>(i, i + 1u), out == size);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.y * groups.x * 64u + id.x;
  if (at >= params.out_batches * params.out_heads * params.out_queries * params.out_keys) {
    return;
  }
  let key = at % params.out_keys;
  let b = places(at / params.out_keys / params.out_queries / params.out_heads, params.out_batches, params.batches);
  let h = places(at / params.out_keys / params.out_queries % params.out_heads, params.out_heads, params.heads);
  var i = places(at / params.out_keys % params.out_queries, params.out_queries, params.queries);
  var j = places(key, params.out_keys, params.keys);
  let is_diagonal = params.diagonals != 0u;
  if (is_diagonal) {
    // j = i + key − (T − 1) must be in [0, S).
    let last = params.queries - 1u;
    i = vec2<u32>(select(0u, last - key, key < last), min(params.queries, params.keys + last - key));
  }
  var sum = 0.0;
  for (var batch = b.x; batch < b.y; batch++) {
    for (var head = h.x; head < h.y; head++) {
      for (var query = i.x; query < i.y; query++) {
        let row = ((batch * params.heads + head) * params.queries + query) * params.keys;
        if (is_diagonal) {
          sum += dscores[row + query + key + 1u - params.queries];
        } else {
          for (var k = j.x; k < j.y; k++) {
            sum += dscores[row + k];
          }
        }
      }
    }
  }
  dbias[at] = sum;
}
