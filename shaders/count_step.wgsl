// step = step + 1
//
// out: step [1] u32
// One invocation.
// Workgroup memory: 0 bytes.

@group(0) @binding(0) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn main() {
  step[0] += 1u;
}
