// out = softmax(mask(scale · q kᵀ)) v, one query an invocation: no barrier, no workgroup memory.
//
// For CPU adapters, where barriers are dear and a load whose address the whole workgroup shares is cheap, and for
// head sizes whose tiles do not fit attention.wgsl.
// in:  q, k, v and lengths as the addressing part says (attention_dense.wgsl or attention_paged.wgsl)
// out: out [T, Dv] of each head; lse [B, H, T] if asked for
// One workgroup: a tile of WORKGROUP_SIZE queries of one head. One invocation: one query; keys pass in blocks of 16
//   whose scores stay in registers, the sums over D and the columns of out are loops. out itself is the accumulator:
//   only its own invocation touches a row, so no register holds D elements and one pipeline serves every D.
// Workgroup memory: 0 bytes.
// Preconditions: a tile has at least one row; out is bound once, as read_write.
// Source: online softmax, Milakov and Gimelshein (2018), Alg. 3; blocks of keys, FlashAttention-2 §3.1, Alg. 1.

override WORKGROUP_SIZE: u32 = 32u;

const BLOCK: u32 = 16u;
const LN_2: f32 = 0.6931471805599453;

// The keep bits of four keys from `key` on.
fn keeps4(position: u32, key: u32, keys: u32) -> vec4<bool> {
  return vec4<bool>(mask_keeps(position, key, keys), mask_keeps(position, key + 1u, keys),
    mask_keeps(position, key + 2u, keys), mask_keeps(position, key + 3u, keys));
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

// Slots of keys from..from + 3 of a block.
fn rows4(first: u32, begin: u32, spare: u32, stride: u32) -> vec4<u32> {
  return first + min(vec4<u32>(begin, begin + 1u, begin + 2u, begin + 3u), vec4<u32>(spare)) * stride;
}

// exp2(s − largest), and exactly 0 where masked: in a row with no kept key so far the difference is 0.
fn weights4(s: vec4<f32>, largest: f32) -> vec4<f32> {
  return select(exp2(s - largest), vec4<f32>(0.0), s <= vec4<f32>(MASKED));
}

fn max4(x: vec4<f32>) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(group.x, group.z, WORKGROUP_SIZE);
  let head = group.y;
  let key_head = head / params.group;
  // Surplus invocations compute the last row again and store nothing: loads stay outside of branches.
  let row = min(local, tile.rows - 1u);
  let is_real = local < tile.rows;
  let position = tile.position + row;
  let last = tile.position + tile.rows - 1u;
  let end = mask_end(last, tile.keys);
  let q_row = q_at(tile, head, row);
  let out_row = out_at(tile, head, row);
  var largest = MASKED;
  var sum = 0.0;
  var is_first = true;
  for (var key = mask_begin(tile.position) / BLOCK * BLOCK; key < end; key += BLOCK) {
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    // A block is inside one page; past the end the last key stands in, so that nothing unwritten is read.
    let spare = end - key - 1u;
    let k_first = k_at(tile, key_head, key);
    let k0 = rows4(k_first, 0u, spare, params.k_row);
    let k1 = rows4(k_first, 4u, spare, params.k_row);
    let k2 = rows4(k_first, 8u, spare, params.k_row);
    let k3 = rows4(k_first, 12u, spare, params.k_row);
    for (var c = 0u; c < params.columns; c++) {
      let x = load_q(q_row, c);
      s0 = dots(x, load_k(k0.x, c), load_k(k0.y, c), load_k(k0.z, c), load_k(k0.w, c), s0);
      s1 = dots(x, load_k(k1.x, c), load_k(k1.y, c), load_k(k1.z, c), load_k(k1.w, c), s1);
      s2 = dots(x, load_k(k2.x, c), load_k(k2.y, c), load_k(k2.z, c), load_k(k2.w, c), s2);
      s3 = dots(x, load_k(k3.x, c), load_k(k3.y, c), load_k(k3.z, c), load_k(k3.w, c), s3);
    }
    s0 *= params.factor;
    s1 *= params.factor;
    s2 *= params.factor;
    s3 *= params.factor;
    if (!mask_keeps_all(tile.position, last, key, key + BLOCK, tile.keys)) {
      s0 = select(vec4<f32>(MASKED), s0, keeps4(position, key, tile.keys));
      s1 = select(vec4<f32>(MASKED), s1, keeps4(position, key + 4u, tile.keys));
      s2 = select(vec4<f32>(MASKED), s2, keeps4(position, key + 8u, tile.keys));
      s3 = select(vec4<f32>(MASKED), s3, keeps4(position, key + 12u, tile.keys));
    }
    let next = max(largest, max4(max(max(s0, s1), max(s2, s3))));
    let decay = exp2(largest - next);
    largest = next;
    let p0 = weights4(s0, next);
    let p1 = weights4(s1, next);
    let p2 = weights4(s2, next);
    let p3 = weights4(s3, next);
    sum = sum * decay + dot(p0 + p1 + p2 + p3, vec4<f32>(1.0));
    let v_first = v_at(tile, key_head, key);
    let v0 = rows4(v_first, 0u, spare, params.v_row);
    let v1 = rows4(v_first, 4u, spare, params.v_row);
    let v2 = rows4(v_first, 8u, spare, params.v_row);
    let v3 = rows4(v_first, 12u, spare, params.v_row);
    for (var c = 0u; c < params.value_columns; c++) {
      // Before the first block `out` holds what the memory held before, NaN perhaps: it is not multiplied.
      var o = select(load_out(out_row, c) * decay, vec4<f32>(0.0), is_first);
      o = mix4(p0, load_v(v0.x, c), load_v(v0.y, c), load_v(v0.z, c), load_v(v0.w, c), o);
      o = mix4(p1, load_v(v1.x, c), load_v(v1.y, c), load_v(v1.z, c), load_v(v1.w, c), o);
      o = mix4(p2, load_v(v2.x, c), load_v(v2.y, c), load_v(v2.z, c), load_v(v2.w, c), o);
      o = mix4(p3, load_v(v3.x, c), load_v(v3.y, c), load_v(v3.z, c), load_v(v3.w, c), o);
      if (is_real) {
        store_out(out_row, c, o);
      }
    }
    is_first = false;
  }
  if (!is_real) {
    return;
  }
  let has_keys = sum > 0.0;
  for (var c = 0u; c < params.value_columns; c++) {
    store_out(out_row, c, select(vec4<f32>(0.0), load_out(out_row, c) / sum, has_keys));
  }
  keep_lse(row_index(tile, head, row), select(MASKED, (largest + log2(sum)) * LN_2, has_keys));
}
