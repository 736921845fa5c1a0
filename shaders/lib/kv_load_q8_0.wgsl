// Keys and values of a pool in blocks of 32 channels, nine words each: the scale as f16 in a word, then 32 signed bytes.

alias KvWord = u32;

// Channels 4i to 4i + 3 of the pool.
fn load_kv(i: u32) -> vec4<f32> {
  let block = i / 8u * 9u;
  let bytes = vec4<i32>(bitcast<i32>(kv[block + 1u + i % 8u])) << vec4<u32>(24u, 16u, 8u, 0u);
  return unpack2x16float(kv[block]).x * vec4<f32>(bytes >> vec4<u32>(24u));
}
