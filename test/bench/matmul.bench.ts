import { numel } from "../../src/core/shape.ts";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import type { Tier } from "../../src/gpu/tiers.ts";
import { type MatmulAttrs, type MatmulLayout, matmul } from "../../src/ops/matmul.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import type { Plan } from "../../src/program/replay.ts";
import { createRandom } from "../support/random.ts";
import { benchOptions } from "./options.ts";

/** A square one to compare with others' figures, and what a training step of 1,024 tokens at width 256 has. */
const SHAPES: readonly { M: number; N: number; K: number; batch?: number }[] = [
  { M: 512, N: 512, K: 512 },
  { M: 1024, N: 768, K: 256 },
  { M: 256, N: 1024, K: 1024 },
  { M: 128, N: 128, K: 64, batch: 48 },
];
const ROUNDS = 7;

/**
 * Times batched matmuls in each layout, interleaved, and prints minimum and median of the wall time from submit to done,
 * and the least CPU time. Arguments: `tier=full kernel=plain layouts=NN,TN`.
 */
export default async function bench(args: readonly string[]): Promise<void> {
  const options = benchOptions(args, ["tier", "kernel", "layouts"]);
  const device = await Device.request({ gpu: await nodeGpu(), tier: options.tier as Tier | undefined });
  const layouts = (options.layouts ?? "NN,NT,TN").split(",") as MatmulLayout[];
  const kernel = options.kernel as MatmulAttrs["kernel"];
  console.log(`${device.adapter.description || device.adapter.device}, tier ${device.facts.tier}, ${ROUNDS} rounds`);
  const runs: { label: string; flops: number; plan: Plan; times: number[]; cpuTimes: number[] }[] = [];
  for (const { M, N, K, batch = 1 } of SHAPES) {
    for (const layout of layouts) {
      const rec = new ProgramRecorder(layout);
      const a = rec.weight(randomTensor(device, "a", [batch, ...(layout === "TN" ? [K, M] : [M, K])]));
      const b = rec.weight(randomTensor(device, "b", [batch, ...(layout === "NT" ? [N, K] : [K, N])]));
      rec.output("out", matmul(rec, a, b, { layout, kernel }));
      const label = `${layout} ${batch} × ${M} × ${N} × ${K}`;
      runs.push({ label, flops: 2 * batch * M * N * K, plan: await plan(device, rec), times: [], cpuTimes: [] });
    }
  }
  for (let round = -1; round < ROUNDS; round++) {
    for (const run of runs) {
      const start = performance.now();
      const cpu = process.cpuUsage();
      await run.plan.run();
      await device.idle();
      // The first round compiles.
      if (round < 0) continue;
      run.times.push(performance.now() - start);
      const { user, system } = process.cpuUsage(cpu);
      run.cpuTimes.push((user + system) / 1000);
    }
  }
  for (const { label, flops, times, cpuTimes } of runs) {
    const sorted = [...times].sort((a, b) => a - b);
    const [min = 0, median = 0] = [sorted[0], sorted[sorted.length >> 1]];
    const columns = [
      `min ${min.toFixed(1)} ms`,
      `median ${median.toFixed(1)} ms`,
      `cpu ${Math.min(...cpuTimes).toFixed(1)} ms`,
    ];
    console.log(
      `${label.padEnd(26)} ${columns.map((c) => c.padEnd(18)).join(" ")} ${(flops / min / 1e6).toFixed(2)} GFLOP/s`,
    );
  }
  device.dispose();
}

function randomTensor(device: Device, label: string, shape: readonly number[]): Tensor {
  const random = createRandom(1);
  return Tensor.from(
    device,
    label,
    shape,
    "f32",
    Float32Array.from({ length: numel(shape) }, () => random.uniform() - 0.5),
  );
}
