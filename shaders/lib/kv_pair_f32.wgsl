// Two neighbouring channels of a key or value as the pool stores them: f32.

alias KvPair = vec2<f32>;

fn pack_kv(v: vec2<f32>) -> KvPair {
  return v;
}
