// What differs from sequence to sequence and from head to head, in one buffer: eight storage bindings are all there are.
//
// table, from attention_pack.wgsl: B query starts, B prefixes, B key lengths (u32), then H slopes and H sinks (bits of f32).
// The linking kernel has params.batches, params.heads and params.keys.

@group(0) @binding(5) var<storage, read> table: array<u32>;

fn sequence_start(batch: u32) -> u32 {
  return table[batch];
}

fn sequence_prefix(batch: u32) -> u32 {
  return table[params.batches + batch];
}

fn sequence_keys(batch: u32) -> u32 {
  return min(params.keys, table[2u * params.batches + batch]);
}

fn head_slope(head: u32) -> f32 {
  return bitcast<f32>(table[3u * params.batches + head]);
}

// MASKED where there is none.
fn head_sink(head: u32) -> f32 {
  return bitcast<f32>(table[3u * params.batches + params.heads + head]);
}
