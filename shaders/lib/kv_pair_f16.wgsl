// Two neighbouring channels of a key or value as the pool stores them: f16; needs the extension f16.

alias KvPair = vec2<f16>;

fn pack_kv(v: vec2<f32>) -> KvPair {
  return vec2<f16>(v);
}
