// Keys and values of a pool in f32 or f16, four channels a load. `WeightVec4` and `unpack_weight` come from a weight_*.wgsl part.

alias KvWord = WeightVec4;

// Channels 4i to 4i + 3 of the pool.
fn load_kv(i: u32) -> vec4<f32> {
  return unpack_weight(kv[i]);
}
