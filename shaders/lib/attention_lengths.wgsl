// Key lengths a sequence: keys at and past key_lengths[b] are masked.

@group(0) @binding(5) var<storage, read> key_lengths: array<u32>;

fn sequence_keys(batch: u32) -> u32 {
  return min(params.keys, key_lengths[batch]);
}
