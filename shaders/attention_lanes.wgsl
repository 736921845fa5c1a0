// out = softmax(mask(scale · q kᵀ)) v, two queries an invocation: no barrier, no workgroup memory.
//
// For CPU adapters, where barriers are dear and every load costs the same whether or not the workgroup shares its
// address, and for head sizes whose tiles do not fit attention_tiled.wgsl.
// in:  q, k, v, lengths and sinks as the addressing part says (attention_dense.wgsl or attention_paged.wgsl); scores become
//      what final_scores makes of them (attention_final*.wgsl)
// out: out [T, Dv] of each head; lse [B, H, T] if asked for
// One workgroup: a tile of 2 · WORKGROUP_SIZE queries of one head. One invocation: queries `local` and
//   `local + WORKGROUP_SIZE`; keys pass in blocks of 8 whose scores stay in registers, the sums over D and the columns of
//   out are loops. out itself is the accumulator: only its own invocation touches a row, so no register holds D
//   elements and one pipeline serves every D.
// Workgroup memory: 0 bytes.
// Preconditions: a tile has at least one row; out is bound once, as read_write.
// Source: online softmax, Milakov and Gimelshein (2018), Alg. 3; blocks of keys, FlashAttention-2 §3.1, Alg. 1.

override WORKGROUP_SIZE: u32 = 16u;

const BLOCK: u32 = 8u;
// Keys of a block from its first on: the four first and the four last.
const LOW = vec4<u32>(0u, 1u, 2u, 3u);
const HIGH = vec4<u32>(4u, 5u, 6u, 7u);
const LN_2: f32 = 0.6931471805599453;

// A query's way through the keys: scores of a block are (low, high), the four first and the four last keys.
struct Row {
  q: u32,
  out: u32,
  position: u32,
  largest: f32,
  sum: f32,
  decay: f32,
  low: vec4<f32>,
  high: vec4<f32>,
}

// Dot products of x with four rows, added to `sum`.
fn dots(x: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  var s = fma(vec4<f32>(x.x), vec4<f32>(a.x, b.x, c.x, d.x), sum);
  s = fma(vec4<f32>(x.y), vec4<f32>(a.y, b.y, c.y, d.y), s);
  s = fma(vec4<f32>(x.z), vec4<f32>(a.z, b.z, c.z, d.z), s);
  return fma(vec4<f32>(x.w), vec4<f32>(a.w, b.w, c.w, d.w), s);
}

// Rows a..d weighted by p, added to `sum`.
fn mix4(p: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(p.w), d, fma(vec4<f32>(p.z), c, fma(vec4<f32>(p.y), b, fma(vec4<f32>(p.x), a, sum))));
}

// Four scores, MASKED where the mask rules a key out.
fn masked4(s: vec4<f32>, tile: Tile, position: u32, key: u32) -> vec4<f32> {
  let keeps = vec4<bool>(
    mask_keeps(position, key, tile.keys, tile.prefix), mask_keeps(position, key + 1u, tile.keys, tile.prefix),
    mask_keeps(position, key + 2u, tile.keys, tile.prefix), mask_keeps(position, key + 3u, tile.keys, tile.prefix));
  return select(vec4<f32>(MASKED), s, keeps);
}

// exp2(s − largest), and exactly 0 where masked: in a row with no kept key so far the difference is 0.
fn weights4(s: vec4<f32>, largest: f32) -> vec4<f32> {
  return select(exp2(s - largest), vec4<f32>(0.0), s <= vec4<f32>(MASKED));
}

// Scores become weights; maximum, sum and the factor of what was summed before follow.
fn softmax_step(row: Row) -> Row {
  var r = row;
  let top = max(r.low, r.high);
  let largest = max(r.largest, max(max(top.x, top.y), max(top.z, top.w)));
  r.decay = exp2(r.largest - largest);
  r.largest = largest;
  r.low = weights4(r.low, largest);
  r.high = weights4(r.high, largest);
  r.sum = r.sum * r.decay + dot(r.low + r.high, vec4<f32>(1.0));
  return r;
}

fn row_of(tile: Tile, head: u32, index: u32) -> Row {
  // Surplus rows compute the last one again and store nothing: loads stay outside of branches.
  let i = min(index, tile.rows - 1u);
  let zero = vec4<f32>(0.0);
  // A sink is one more key, of value 0, that comes first.
  let sink = head_sink(head);
  let has_sink = sink > MASKED;
  let largest = select(MASKED, sink / LN_2, has_sink);
  let sum = select(0.0, 1.0, has_sink);
  return Row(q_at(tile, head, i), out_at(tile, head, i), tile.position + i, largest, sum, 0.0, zero, zero);
}

fn finish(tile: Tile, head: u32, index: u32, row: Row, has_blocks: bool) {
  if (index >= tile.rows) {
    return;
  }
  let has_keys = row.sum > 0.0;
  // Where no block was visited `out` holds what the memory held before.
  let is_written = has_keys & has_blocks;
  for (var c = 0u; c < params.value_columns; c++) {
    store_out(row.out, c, select(vec4<f32>(0.0), load_out(row.out, c) / row.sum, is_written));
  }
  keep_lse(row_index(tile, head, index), select(MASKED, (row.largest + log2(row.sum)) * LN_2, has_keys));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(group.x, group.z, 2u * WORKGROUP_SIZE);
  let head = group.y;
  let key_head = head / params.group;
  let lane = block_lane();
  let last = tile.position + tile.rows - 1u;
  let end = mask_end(last, tile.keys, tile.prefix);
  var a = row_of(tile, head, local);
  var b = row_of(tile, head, local + WORKGROUP_SIZE);
  // Blocks begin at multiples of 8, so that each is inside one page.
  let begin = mask_begin(tile.position) / BLOCK * BLOCK;
  for (var key = begin; key < end; key += BLOCK) {
    // Past the end the last key stands in, so that nothing unwritten is read.
    let spare = end - key - 1u;
    let k_first = k_at(tile, key_head, key);
    a.low = vec4<f32>(0.0);
    a.high = vec4<f32>(0.0);
    b.low = vec4<f32>(0.0);
    b.high = vec4<f32>(0.0);
    for (var c = 0u; c < params.columns; c++) {
      let x = load_q(a.q, c);
      let y = load_q(b.q, c);
      let k = load_k8(k_first, spare, lane, c);
      a.low = dots(x, k[0], k[1], k[2], k[3], a.low);
      b.low = dots(y, k[0], k[1], k[2], k[3], b.low);
      a.high = dots(x, k[4], k[5], k[6], k[7], a.high);
      b.high = dots(y, k[4], k[5], k[6], k[7], b.high);
    }
    a.low = final_scores(tile, head, vec4<u32>(a.position), key + LOW, a.low);
    a.high = final_scores(tile, head, vec4<u32>(a.position), key + HIGH, a.high);
    b.low = final_scores(tile, head, vec4<u32>(b.position), key + LOW, b.low);
    b.high = final_scores(tile, head, vec4<u32>(b.position), key + HIGH, b.high);
    if (!mask_keeps_all(tile.position, last, key, key + BLOCK, tile.keys, tile.prefix)) {
      a.low = masked4(a.low, tile, a.position, key);
      a.high = masked4(a.high, tile, a.position, key + 4u);
      b.low = masked4(b.low, tile, b.position, key);
      b.high = masked4(b.high, tile, b.position, key + 4u);
    }
    a = softmax_step(a);
    b = softmax_step(b);
    let v_first = v_at(tile, key_head, key);
    for (var c = 0u; c < params.value_columns; c++) {
      let v = load_v8(v_first, spare, lane, c);
      // Before the first block `out` holds what the memory held before, NaN perhaps: it is not multiplied.
      var x = select(load_out(a.out, c) * a.decay, vec4<f32>(0.0), key == begin);
      var y = select(load_out(b.out, c) * b.decay, vec4<f32>(0.0), key == begin);
      x = mix4(a.high, v[4], v[5], v[6], v[7], mix4(a.low, v[0], v[1], v[2], v[3], x));
      y = mix4(b.high, v[4], v[5], v[6], v[7], mix4(b.low, v[0], v[1], v[2], v[3], y));
      if (local < tile.rows) {
        store_out(a.out, c, x);
      }
      if (local + WORKGROUP_SIZE < tile.rows) {
        store_out(b.out, c, y);
      }
    }
  }
  finish(tile, head, local, a, begin < end);
  finish(tile, head, local + WORKGROUP_SIZE, b, begin < end);
}
