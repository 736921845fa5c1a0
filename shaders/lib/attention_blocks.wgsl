// Sums over four rows of a block of keys or queries, for the backward kernels.

// Dot products of x with four rows, added to `sum`, in the order of attention_dots.wgsl.
fn dots4(x: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  var s = fma(vec4<f32>(x.x), vec4<f32>(a.x, b.x, c.x, d.x), sum);
  s = fma(vec4<f32>(x.y), vec4<f32>(a.y, b.y, c.y, d.y), s);
  s = fma(vec4<f32>(x.z), vec4<f32>(a.z, b.z, c.z, d.z), s);
  return fma(vec4<f32>(x.w), vec4<f32>(a.w, b.w, c.w, d.w), s);
}

// Rows a..d weighted by w, added to `sum`.
fn mix4(w: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(w.w), d, fma(vec4<f32>(w.z), c, fma(vec4<f32>(w.y), b, fma(vec4<f32>(w.x), a, sum))));
}

// Weights of four pairs of a query and a key, from the products q k and each query's lse · log₂ e; 0 where masked.
fn weights4(tile: Tile, head: u32, positions: vec4<u32>, keys: vec4<u32>, products: vec4<f32>, lse: vec4<f32>) -> vec4<f32> {
  let scores = final_scores(tile, head, positions, keys, products);
  let is_kept = mask_keeps4(positions, keys, tile.keys, tile.prefix) & (scores > vec4<f32>(MASKED));
  return select(vec4<f32>(0.0), exp2(scores - lse), is_kept);
}
