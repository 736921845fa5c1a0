import { loadavg } from "node:os";
import type { Tier } from "../../src/gpu/tiers.ts";
import { checkResult, expect } from "./attention/check.ts";
import { type BenchShape, type Contender, drawData, flopsOf, napping, type Runner } from "./attention/contender.ts";
import { heedContender, heedDevice } from "./attention/heed.ts";
import { benchOptions, chosen } from "./options.ts";

const square = (B: number, H: number, T: number, D: number, causal: boolean) => ({ B, H, Hkv: H, T, S: T, D, causal });
const decode = (H: number, Hkv: number, D: number, S: number) => ({ B: 1, H, Hkv, T: 1, S, D, causal: true });

/** What is timed, by the name that `shapes=` takes a part of. */
const SHAPES: Readonly<Record<string, BenchShape>> = {
  "(1,12,128,64) full": square(1, 12, 128, 64, false),
  "(1,12,128,64) causal": square(1, 12, 128, 64, true),
  "(1,12,512,64) full": square(1, 12, 512, 64, false),
  "(1,12,512,64) causal": square(1, 12, 512, 64, true),
  "(1,12,1024,64) full": square(1, 12, 1024, 64, false),
  "(1,12,1024,64) causal": square(1, 12, 1024, 64, true),
  "(1,12,1024,64) window 128": { ...square(1, 12, 1024, 64, true), window: 128 },
  "(1,32,512,128) full": square(1, 32, 512, 128, false),
  "(1,32,512,128) causal": square(1, 32, 512, 128, true),
  "decode H 12, D 64, S 1024": decode(12, 12, 64, 1024),
  "decode H 12, D 64, S 8192": decode(12, 12, 64, 8192),
  "decode H 32 on 8, D 64, S 1024": decode(32, 8, 64, 1024),
  "decode H 32 on 8, D 64, S 8192": decode(32, 8, 64, 8192),
  "decode H 32 on 8, D 128, S 1024": decode(32, 8, 128, 1024),
  "decode H 32 on 8, D 128, S 8192": decode(32, 8, 128, 8192),
  "backward (1,12,512,64) full": { ...square(1, 12, 512, 64, false), backward: true },
  "backward (1,12,512,64) causal": { ...square(1, 12, 512, 64, true), backward: true },
};

const PEERS = ["jax-js", "onnxruntime", "tfjs"] as const;

/** Shapes whose times are compared with those of another, and the most that they may cost of it. */
const SKIPPED = [
  ["(1,12,1024,64) causal", "(1,12,1024,64) full", 0.65],
  ["(1,12,1024,64) window 128", "(1,12,1024,64) full", 0.3],
  ["backward (1,12,512,64) causal", "backward (1,12,512,64) full", 0.65],
] as const;

interface Measured {
  readonly contender: Contender;
  readonly runner: Runner;
  readonly isRight: boolean;
  readonly wallMs: number[];
  /** CPU time of the process, all threads: on a CPU adapter the work itself, whatever else the machine does. */
  readonly cpuMs: number[];
}

/** A shape's median times by contender; wrong ones are left out. */
type Medians = ReadonlyMap<Contender, { readonly wallMs: number; readonly cpuMs: number }>;

/**
 * Times attention of each shape: inputs on the GPU, result on the host; backward is dq, dk and dv from q, k, v and dout,
 * forward pass included. Contenders take turns in one process, and a contender whose result differs from float64's counts
 * for nothing. Arguments: `rounds=7 tier=full shapes=decode;causal --peers`; `peers=jax-js,onnxruntime,tfjs` for some of them.
 */
export default async function bench(args: readonly string[]): Promise<void> {
  const options = benchOptions(args, ["rounds", "tier", "shapes", "peers"]);
  const rounds = Number(options.rounds ?? 7);
  const device = await heedDevice(options.tier as Tier | undefined);
  const contenders = [heedContender(device, "fused"), heedContender(device, "unfused")];
  const wanted = "peers" in options ? chosen(options.peers, PEERS) : [];
  for (const name of wanted) contenders.push(...(await openPeers(name)).map(napping));
  const { description, device: name } = device.adapter;
  console.log(
    `${description || name}, tier ${device.facts.tier}; ${new Date().toISOString()}; ${rounds} rounds; ${load()}`,
  );
  const parts = options.shapes?.split(";") ?? [""];
  const medians = new Map<string, Medians>();
  for (const [label, shape] of Object.entries(SHAPES)) {
    if (parts.some((part) => label.includes(part))) medians.set(label, await measure(label, shape, contenders, rounds));
  }
  reportSkipped(medians);
  if (wanted.length > 0) reportPeers(medians);
  console.log(load());
  for (const c of contenders) await c.dispose();
  device.dispose();
}

/** Peers are development dependencies that only this loads. */
async function openPeers(name: (typeof PEERS)[number]): Promise<Contender[]> {
  if (name === "jax-js") {
    const { jaxContender } = await import("./attention/jax_js.ts");
    return [await jaxContender("library"), await jaxContender("heads")];
  }
  if (name === "onnxruntime") {
    const { onnxContender } = await import("./attention/onnxruntime.ts");
    return [await onnxContender("graph"), await onnxContender("fused")];
  }
  return [await (await import("./attention/tfjs.ts")).tfjsContender()];
}

async function measure(
  label: string,
  shape: BenchShape,
  contenders: readonly Contender[],
  rounds: number,
): Promise<Medians> {
  console.log(`\n${label}`);
  const data = drawData(shape);
  const expected = expect(shape, data);
  const measured: Measured[] = [];
  for (const contender of contenders) {
    const runner = await contender.prepare(shape, data);
    if (!runner) continue;
    // The first run compiles.
    const { worst, isRight } = checkResult(shape, expected, runner, await runner.run());
    measured.push({ contender, runner, isRight, wallMs: [], cpuMs: [] });
    if (!isRight) console.log(`  ${contender.name}: WRONG by ${worst.toExponential(1)}, its speed does not count`);
  }
  for (let round = 0; round < rounds; round++) {
    for (const m of measured) await timeOnce(m);
  }
  const medians = new Map<Contender, { wallMs: number; cpuMs: number }>();
  for (const { contender, runner, isRight, wallMs, cpuMs } of measured) {
    const wall = median(wallMs);
    const rate = `${(flopsOf(shape) / wall / 1e6).toFixed(2).padStart(7)} GFLOP/s`;
    const least = ms(Math.min(...wallMs));
    const name = `${contender.name}${isRight ? "" : " (wrong)"}`;
    console.log(`  ${name.padEnd(28)} median ${ms(wall)} min ${least} cpu ${ms(median(cpuMs))} ${rate}`);
    if (isRight) medians.set(contender, { wallMs: wall, cpuMs: median(cpuMs) });
    await runner.dispose();
  }
  return medians;
}

async function timeOnce({ runner, wallMs, cpuMs }: Measured): Promise<void> {
  const before = process.cpuUsage();
  const start = performance.now();
  await runner.run();
  wallMs.push(performance.now() - start);
  const { user, system } = process.cpuUsage(before);
  cpuMs.push((user + system) / 1000);
}

/** What tiles that the mask rules out save of the time. */
function reportSkipped(medians: ReadonlyMap<string, Medians>): void {
  for (const [part, whole, most] of SKIPPED) {
    const [a, b] = [medians.get(part), medians.get(whole)].map((m) => m && [...m].find(([c]) => c.own)?.[1]);
    if (!a || !b) continue;
    const [wall, cpu] = [a.wallMs / b.wallMs, a.cpuMs / b.cpuMs];
    const verdict = Math.min(wall, cpu) <= most ? "as it should" : "TOO MUCH";
    console.log(`\n${part} costs ${wall.toFixed(2)} of ${whole} (cpu ${cpu.toFixed(2)}, at most ${most}): ${verdict}`);
  }
}

/** How many times as fast as the best right peer Heed is, by shape and as a geometric mean. */
function reportPeers(medians: ReadonlyMap<string, Medians>): void {
  console.log("\ntimes as fast as the best right peer, by median wall time (by CPU time)");
  const wall: number[] = [];
  const cpu: number[] = [];
  const slower = { wall: [] as string[], cpu: [] as string[] };
  for (const [label, times] of medians) {
    const heed = [...times].find(([c]) => c.own)?.[1];
    const peers = [...times].filter(([c]) => !c.own).sort(([, a], [, b]) => a.wallMs - b.wallMs);
    const [best] = peers;
    if (!heed || !best) continue;
    const byWall = best[1].wallMs / heed.wallMs;
    const byCpu = Math.min(...peers.map(([, t]) => t.cpuMs)) / heed.cpuMs;
    wall.push(byWall);
    cpu.push(byCpu);
    if (byWall < 1) slower.wall.push(label);
    if (byCpu < 1) slower.cpu.push(label);
    console.log(`  ${label.padEnd(34)} ${byWall.toFixed(2)} (${byCpu.toFixed(2)})  ${best[0].name}`);
  }
  console.log(`  ${"geometric mean".padEnd(34)} ${geometricMean(wall).toFixed(2)} (${geometricMean(cpu).toFixed(2)})`);
  for (const [clock, labels] of Object.entries(slower)) {
    const verdict = labels.length > 0 ? `SLOWER than a right peer: ${labels.join("; ")}` : "on no shape slower";
    console.log(`by ${clock} time ${verdict}`);
  }
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] ?? Number.NaN;
}

function ms(x: number): string {
  return `${x.toFixed(2).padStart(8)} ms`;
}

function load(): string {
  return `load ${loadavg()
    .map((l) => l.toFixed(1))
    .join(" ")}`;
}
