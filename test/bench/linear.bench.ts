import { numel } from "../../src/core/shape.ts";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import type { Tier } from "../../src/gpu/tiers.ts";
import { LINEAR, type LinearAttrs } from "../../src/ops/linear.ts";
import { only } from "../../src/ops/op.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import type { Plan } from "../../src/program/replay.ts";
import { toFloat16Bits } from "../support/float16.ts";
import { createRandom } from "../support/random.ts";
import { benchOptions } from "./options.ts";

/** GPT-2 124M: [K, M] of its linear layers, and how often a token meets each. */
const SHAPES: readonly { name: string; K: number; M: number; count: number }[] = [
  { name: "qkv", K: 768, M: 2304, count: 12 },
  { name: "out", K: 768, M: 768, count: 12 },
  { name: "up", K: 768, M: 3072, count: 12 },
  { name: "down", K: 3072, M: 768, count: 12 },
  { name: "head", K: 768, M: 50257, count: 1 },
];
const MAX_HEAD_ROWS = 8;
const ROUNDS = 9;

interface Candidate {
  readonly label: string;
  readonly plan: Plan;
  readonly flops: number;
  readonly bytes: number;
  readonly count: number;
  readonly times: number[];
  /** CPU time of the process, all threads: on a CPU adapter the work itself, whatever else the machine does. */
  readonly cpuTimes: number[];
}

/**
 * Times GPT-2's linear layers, interleaved, and prints minimum and median of the wall time from submit to done, and the least CPU time.
 * Arguments: `N=1,8,128 dtype=f32 tier=full kernel=tiled shapes=qkv,up`.
 */
export default async function bench(args: readonly string[]): Promise<void> {
  const options = benchOptions(args, ["N", "dtype", "tier", "kernel", "shapes"]);
  const device = await Device.request({ gpu: await nodeGpu(), tier: options.tier as Tier | undefined });
  const dtype = options.dtype === "f16" ? "f16" : "f32";
  const kernels = options.kernel?.split(",") ?? [undefined];
  const wanted = options.shapes?.split(",");
  console.log(
    `${device.adapter.description || device.adapter.device}, tier ${device.facts.tier}, weights ${dtype}, ${ROUNDS} rounds`,
  );
  for (const N of (options.N ?? "1,8,128").split(",").map(Number)) {
    const candidates: Candidate[] = [];
    const tensors: Tensor[] = [];
    for (const shape of SHAPES) {
      if ((wanted && !wanted.includes(shape.name)) || (shape.name === "head" && N > MAX_HEAD_ROWS)) continue;
      const weight = randomTensor(device, [shape.M, shape.K], dtype);
      const x = randomTensor(device, [N, shape.K], "f32");
      tensors.push(weight, x);
      for (const kernel of kernels) {
        const attrs = { kernel } as LinearAttrs;
        const rec = new ProgramRecorder(shape.name);
        rec.output("out", only(rec.record(LINEAR, { x: rec.weight(x, "x"), weight: rec.weight(weight, "w") }, attrs)));
        const label = [shape.name, kernel].filter(Boolean).join(" ");
        const flops = 2 * N * shape.M * shape.K;
        candidates.push({
          label,
          plan: await plan(device, rec),
          flops,
          bytes: weight.sizeBytes,
          count: shape.count,
          times: [],
          cpuTimes: [],
        });
      }
    }
    await measure(candidates);
    report(N, candidates);
    for (const c of candidates) c.plan.dispose();
    for (const t of tensors) t.dispose();
  }
  device.dispose();
}

async function measure(candidates: readonly Candidate[]): Promise<void> {
  for (let round = -1; round < ROUNDS; round++) {
    for (const c of candidates) {
      const start = performance.now();
      const cpu = process.cpuUsage();
      await c.plan.run();
      await c.plan.device.idle();
      // The first round compiles.
      if (round < 0) continue;
      c.times.push(performance.now() - start);
      const { user, system } = process.cpuUsage(cpu);
      c.cpuTimes.push((user + system) / 1000);
    }
  }
}

function report(N: number, candidates: readonly Candidate[]): void {
  let total = 0;
  for (const c of candidates) {
    const { label, times, flops, bytes, count } = c;
    const sorted = [...times].sort((a, b) => a - b);
    const min = sorted[0] ?? 0;
    const cpu = Math.min(...c.cpuTimes);
    const median = sorted[sorted.length >> 1] ?? 0;
    total += min * count;
    const rates = `${(flops / min / 1e6).toFixed(2).padStart(7)} GFLOP/s ${(bytes / min / 1e6).toFixed(2).padStart(6)} GB/s`;
    console.log(
      `N=${String(N).padEnd(4)} ${label.padEnd(20)} min ${min.toFixed(2).padStart(8)} ms  median ${median.toFixed(2).padStart(8)} ms  cpu ${cpu.toFixed(2).padStart(8)} ms ${rates}`,
    );
  }
  console.log(`N=${String(N).padEnd(4)} all layers of one pass, minima: ${total.toFixed(1)} ms`);
}

function randomTensor(device: Device, shape: readonly number[], dtype: "f32" | "f16"): Tensor {
  const random = createRandom(1);
  const values = Float32Array.from({ length: numel(shape) }, () => random.uniform() - 0.5);
  return Tensor.from(device, "w", shape, dtype, dtype === "f16" ? toFloat16Bits(values) : values);
}
