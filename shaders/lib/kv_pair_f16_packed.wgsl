// Two neighbouring channels of a key or value as the pool stores them: f16, for devices without the extension f16.

alias KvPair = u32;

fn pack_kv(v: vec2<f32>) -> KvPair {
  return pack2x16float(v);
}
