import type { Device } from "../../src/gpu/device.ts";
import { only, type OpDef, shader, type Value } from "../../src/ops/op.ts";
import { reducePart } from "../../src/ops/reduce.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

// Every invocation writes what it got, so that a result known to one of them alone would show.
const KERNEL = shader(
  "test_reduce.wgsl",
  `
override WORKGROUP_SIZE: u32 = 64u;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) i: u32) {
  let a = workgroup_sum(x[i], i);
  let b = workgroup_max(x[i], i);
  let c = workgroup_sum_vec4(vec4<f32>(1.0, x[i], 0.0, -x[i]), i);
  let d = workgroup_max_vec4(vec4<f32>(-x[i], 0.0, x[i], 1.0), i);
  out[i] = vec4<f32>(a + c.x, b, c.y - c.w, d.x + d.z);
}
`,
);

const REDUCE_ALL: OpDef<{ size: number }> = {
  name: "reduceAll",
  infer: (_, { size }) => [{ shape: [size, 4], dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { facts, dispatch }) {
    dispatch({
      kernel: { kernel: KERNEL, ...reducePart(facts), overrides: { WORKGROUP_SIZE: attrs.size } },
      bindings: { x: inputs.x as Value, out: only(outputs) },
      workgroups: [1],
    });
  },
};

async function checkSize(device: Device, size: number): Promise<void> {
  const x = createRandom(size).normals(size);
  const { out } = await runOps(device, { x: { shape: [size], data: Float32Array.from(x) } }, (rec, v) => ({
    out: only(rec.record(REDUCE_ALL, { x: v.x }, { size })),
  }));
  const sum = x.reduce((a, b) => a + b, 0);
  const max = Math.max(...x);
  const row = [sum + size, max, 2 * sum, max - Math.min(...x)];
  assertClose(out as Float32Array, Array.from({ length: size }, () => row).flat(), {
    atol: 1e-4,
    rtol: 1e-5,
    shape: [size, 4],
  });
}

export const cases = opCases("reduce", (add) => {
  for (const size of [1, 7, 64, 100, 256]) {
    add(`gives every invocation the sum and the maximum of ${size}`, (device) => checkSize(device, size));
  }
});
