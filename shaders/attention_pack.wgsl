// table = starts [B], prefixes [B], lengths [B], slopes [H], sinks [H]: one buffer in place of five (attention_table.wgsl).
//
// in:  starts, prefixes, lengths [B] u32; slopes, sinks [H] f32, bound as words. What is absent has its has_* 0, is bound to
//      another of them, and gets the number in Params, slope 0, or sink −1e30.
// out: table [3 B + 2 H] u32
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: none. Source: the layout is this engine's own.

struct Params {
  batches: u32,
  heads: u32,
  start: u32,
  prefix: u32,
  length: u32,
  has_starts: u32,
  has_prefixes: u32,
  has_lengths: u32,
  has_slopes: u32,
  has_sinks: u32,
}

const NO_SINK: u32 = 0xf149f2cau; // the bits of −1e30

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> prefixes: array<u32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
@group(0) @binding(4) var<storage, read> slopes: array<u32>;
@group(0) @binding(5) var<storage, read> sinks: array<u32>;
@group(0) @binding(6) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.x;
  if (i < params.batches) {
    table[i] = select(params.start, starts[i], params.has_starts != 0u);
    table[params.batches + i] = select(params.prefix, prefixes[i], params.has_prefixes != 0u);
    table[2u * params.batches + i] = select(params.length, lengths[i], params.has_lengths != 0u);
  }
  if (i < params.heads) {
    table[3u * params.batches + i] = select(0u, slopes[i], params.has_slopes != 0u);
    table[3u * params.batches + params.heads + i] = select(NO_SINK, sinks[i], params.has_sinks != 0u);
  }
}
