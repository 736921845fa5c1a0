import { numel } from "../../src/core/shape.ts";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import type { Tier } from "../../src/gpu/tiers.ts";
import { attention, attentionDecodePaged } from "../../src/ops/attention.ts";
import type { AttentionKernel } from "../../src/ops/attention_kernels.ts";
import { maskedSoftmax, qkScores, weightedSum } from "../../src/ops/attention_unfused.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import type { Plan } from "../../src/program/replay.ts";
import { createRandom } from "../support/random.ts";

/** Prefill: [B, H, T, D]. */
const PREFILL = [
  [1, 12, 128, 64],
  [1, 12, 512, 64],
  [1, 12, 1024, 64],
  [1, 32, 512, 128],
] as const;
/** Decode of one row from a paged cache: [H, Hkv, D, S]. */
const DECODE = [
  [12, 12, 64, 1024],
  [32, 8, 64, 1024],
  [12, 12, 64, 8192],
] as const;
const PAGE = 32;

interface Candidate {
  readonly label: string;
  readonly plan: Plan;
  /** Multiply-adds count as two; a causal mask halves them. */
  readonly flops: number;
  readonly times: number[];
  /** CPU time of the process, all threads: on a CPU adapter the work itself, whatever else the machine does. */
  readonly cpuTimes: number[];
}

/**
 * Times fused attention, full and causal, the three kernels, and decode, interleaved, and prints minimum and median of the wall
 * time from submit to done, and the least CPU time. Arguments: `tier=full kernel=lanes,tiled rounds=9 T=512 unfused=0`.
 */
export default async function bench(args: readonly string[]): Promise<void> {
  const options = Object.fromEntries(args.map((a) => a.split("="))) as Record<string, string | undefined>;
  const device = await Device.request({ gpu: await nodeGpu(), tier: options["tier"] as Tier | undefined });
  const rounds = Number(options["rounds"] ?? 9);
  console.log(`${device.adapter.description || device.adapter.device}, tier ${device.facts.tier}, ${rounds} rounds`);
  const kernels = (options["kernel"]?.split(",") ?? [undefined]) as (AttentionKernel | undefined)[];
  for (const shape of PREFILL) {
    if (options["T"] && Number(options["T"]) !== shape[2]) continue;
    const tensors: Tensor[] = [];
    const candidates: Candidate[] = [];
    for (const causal of [false, true]) {
      for (const kernel of kernels) candidates.push(await fused(device, tensors, shape, causal, kernel));
      if (options["unfused"] !== "0") candidates.push(await unfused(device, tensors, shape, causal));
    }
    await finish(candidates, tensors, rounds);
  }
  const candidates: Candidate[] = [];
  const tensors: Tensor[] = [];
  for (const shape of DECODE) candidates.push(await decode(device, tensors, shape));
  await finish(candidates, tensors, rounds);
  device.dispose();
}

type Prefill = (typeof PREFILL)[number];

function prefillInputs(device: Device, tensors: Tensor[], [B, H, T, D]: Prefill) {
  const rec = new ProgramRecorder("attention");
  const value = (name: string) => {
    const tensor = randomTensor(device, [B, H, T, D]);
    tensors.push(tensor);
    return rec.weight(tensor, name);
  };
  const sizes = { heads: H, kvHeads: H, headDim: D, batch: B, queryLength: T, keyLength: T, layout: "bhtd" } as const;
  return { rec, q: value("q"), k: value("k"), v: value("v"), sizes };
}

function flopsOf([B, H, T, D]: Prefill, causal: boolean): number {
  return (4 * B * H * T * T * D) / (causal ? 2 : 1);
}

async function fused(
  device: Device,
  tensors: Tensor[],
  shape: Prefill,
  causal: boolean,
  kernel?: AttentionKernel,
): Promise<Candidate> {
  const { rec, q, k, v, sizes } = prefillInputs(device, tensors, shape);
  rec.output("out", attention(rec, { q, k, v }, { ...sizes, causal, kernel }).out);
  const label = [`(${shape.join(",")})`, causal ? "causal" : "full", kernel ?? "fused"].join(" ");
  return candidate(label, await plan(device, rec), flopsOf(shape, causal));
}

async function unfused(device: Device, tensors: Tensor[], shape: Prefill, causal: boolean): Promise<Candidate> {
  const { rec, q, k, v, sizes } = prefillInputs(device, tensors, shape);
  const probs = maskedSoftmax(rec, qkScores(rec, { q, k }, sizes), { causal });
  rec.output("out", weightedSum(rec, { probs, v }, sizes));
  return candidate(
    `(${shape.join(",")}) ${causal ? "causal" : "full"} three kernels`,
    await plan(device, rec),
    flopsOf(shape, causal),
  );
}

async function decode(device: Device, tensors: Tensor[], [H, Hkv, D, S]: (typeof DECODE)[number]): Promise<Candidate> {
  const rec = new ProgramRecorder("decode");
  const maxPages = S / PAGE;
  const made = {
    q: randomTensor(device, [1, H * D]),
    kv: randomTensor(device, [maxPages, 2, Hkv, PAGE, D]),
    rowTable: Tensor.from(device, "rows", [1, 2], "u32", Uint32Array.from([0, S - 1])),
    pageTable: Tensor.from(
      device,
      "pages",
      [1, maxPages],
      "u32",
      Uint32Array.from({ length: maxPages }, (_, i) => i),
    ),
  };
  tensors.push(...Object.values(made));
  const inputs = {
    q: rec.weight(made.q),
    kv: rec.weight(made.kv),
    rowTable: rec.weight(made.rowTable),
    pageTable: rec.weight(made.pageTable),
  };
  rec.output("out", attentionDecodePaged(rec, inputs, { heads: H, kvHeads: Hkv, headDim: D, maxPages }));
  return candidate(`decode H ${H} on ${Hkv}, D ${D}, S ${S}`, await plan(device, rec), 4 * H * S * D);
}

function candidate(label: string, planned: Plan, flops: number): Candidate {
  return { label, plan: planned, flops, times: [], cpuTimes: [] };
}

async function finish(candidates: readonly Candidate[], tensors: readonly Tensor[], rounds: number): Promise<void> {
  // The first round compiles.
  for (let round = -1; round < rounds; round++) {
    for (const c of candidates) {
      const start = performance.now();
      const cpu = process.cpuUsage();
      await c.plan.run();
      await c.plan.device.idle();
      if (round < 0) continue;
      c.times.push(performance.now() - start);
      const { user, system } = process.cpuUsage(cpu);
      c.cpuTimes.push((user + system) / 1000);
    }
  }
  for (const { label, times, cpuTimes, flops } of candidates) {
    const sorted = [...times].sort((a, b) => a - b);
    const [min = 0, median = 0] = [sorted[0], sorted[sorted.length >> 1]];
    const ms = (x: number) => `${x.toFixed(2).padStart(8)} ms`;
    const rate = `${(flops / min / 1e6).toFixed(2).padStart(7)} GFLOP/s`;
    console.log(`${label.padEnd(36)} min ${ms(min)}  median ${ms(median)}  cpu ${ms(Math.min(...cpuTimes))} ${rate}`);
  }
  for (const c of candidates) c.plan.dispose();
  for (const t of tensors) t.dispose();
}

function randomTensor(device: Device, shape: readonly number[]): Tensor {
  const random = createRandom(1);
  return Tensor.from(
    device,
    "x",
    shape,
    "f32",
    Float32Array.from({ length: numel(shape) }, () => random.uniform() - 0.5),
  );
}
