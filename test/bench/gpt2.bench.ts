import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tier } from "../../src/gpu/tiers.ts";
import { createRandom } from "../support/random.ts";
import { type BenchModel, type Contender, greedy, type PeerSteps } from "./gpt2/contender.ts";
import { heedContender } from "./gpt2/heed.ts";
import { benchOptions } from "./options.ts";

const PROMPT_TOKENS = 128;
/** Logits of a right contender differ from the reference's by at most this; they are of the order of 1. */
const LOGITS_TOLERANCE = 1e-3;

interface Times {
  readonly wallMs: number[];
  /** CPU time of the process, all threads: on a CPU adapter the work itself, whatever else the machine does. */
  readonly cpuMs: number[];
}

interface Measured {
  readonly contender: Contender;
  readonly prefill: Times;
  /** Per token, mean of a round. */
  readonly decode: Times;
}

/**
 * GPT-2 124M with random weights: time to the first token after a prompt of 128, and per token behind it, greedy.
 * Arguments: `rounds=5 tokens=8 tier=full model=FOLDER --peers --profile`; `peers=jax-js` or
 * `peers=onnxruntime:webgpu:disabled` for some of them, `naps=off` to let them wait as they do. Contenders take turns. The model is written to the temporary folder at the first run (500 MB) and kept.
 */
export default async function bench(args: readonly string[]): Promise<void> {
  const options = benchOptions(args, ["rounds", "tokens", "tier", "model", "peers", "profile", "naps"]);
  const rounds = Number(options.rounds ?? 5);
  const tokens = Number(options.tokens ?? 8);
  const model = benchModel(options.model);
  const prompt = randomIds(PROMPT_TOKENS, model.vocab);
  const wanted = "peers" in options ? (options.peers || "jax-js,onnxruntime").split(",") : [];
  const heed = await heedContender(model, options.tier as Tier | undefined);
  const steps = await openPeers(wanted, model);
  const contenders = [heed as Contender, ...steps.map((s) => greedy(s, { naps: options.naps !== "off" }))];
  const { description, device } = heed.engine.adapter;
  console.log(`${description || device}; ${new Date().toISOString()}; ${load()}`);
  if (contenders.length > 1) await checkLogits(contenders, prompt);
  const measured = contenders.map(
    (contender): Measured => ({ contender, prefill: { wallMs: [], cpuMs: [] }, decode: { wallMs: [], cpuMs: [] } }),
  );
  for (let round = -1; round < rounds; round++) {
    for (const m of measured) {
      const first = await timed(round < 0 ? undefined : m.prefill, 1, () => m.contender.prefill(prompt));
      const ids = await timed(round < 0 ? undefined : m.decode, tokens, () => m.contender.decode(tokens));
      if (round < 0) console.log(`${m.contender.name}: ${[first, ...ids].join(" ")}`);
    }
  }
  for (const m of measured) report(m);
  console.log(load());
  if ("profile" in options) printProfile(await heed.model.profile({ keys: PROMPT_TOKENS }));
  for (const m of measured) await m.contender.dispose();
}

/** Peers are development dependencies that only this loads. */
async function openPeers(names: readonly string[], model: BenchModel): Promise<PeerSteps[]> {
  const peers: PeerSteps[] = [];
  for (const name of names) {
    if (name.startsWith("onnxruntime")) {
      const [, provider = "webgpu", optimise = "all"] = name.split(":") as [
        string,
        "webgpu" | "cpu" | undefined,
        "all" | "basic" | "disabled" | undefined,
      ];
      peers.push(await (await import("./gpt2/onnxruntime.ts")).onnxSteps(model, { provider, optimise }));
    } else if (name === "jax-js") peers.push(await (await import("./gpt2/jax_js.ts")).jaxSteps(model));
    else throw new Error(`bench: peers are jax-js and onnxruntime; got "${name}"`);
  }
  return peers;
}

/** Holds every contender's logits against the reference's: a wrong one's speed does not count. */
async function checkLogits(contenders: readonly Contender[], prompt: readonly number[]): Promise<void> {
  const [first, ...others] = contenders;
  const reference = await first!.logits(prompt);
  for (const c of others) {
    const logits = await c.logits(prompt);
    let worst = 0;
    for (let i = 0; i < reference.length; i++) worst = Math.max(worst, Math.abs(logits[i]! - reference[i]!));
    console.log(
      `${c.name}: logits differ by ${worst.toExponential(1)}: ${worst <= LOGITS_TOLERANCE ? "right" : "WRONG, its speed does not count"}`,
    );
  }
}

async function timed<T>(times: Times | undefined, parts: number, body: () => Promise<T>): Promise<T> {
  const before = process.cpuUsage();
  const start = performance.now();
  const result = await body();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  times?.wallMs.push(wall / parts);
  times?.cpuMs.push((user + system) / 1000 / parts);
  return result;
}

function report({ contender, prefill, decode }: Measured): void {
  const figures = ({ wallMs, cpuMs }: Times) =>
    `median ${at(wallMs, 0.5)} min ${at(wallMs, 0)} cpu ${at(cpuMs, 0.5)} ms`;
  console.log(`${contender.name.padEnd(24)} prefill ${figures(prefill)} | decode ${figures(decode)}`);
}

function at(values: readonly number[], share: number): string {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]!.toFixed(1).padStart(7);
}

function load(): string {
  return `load ${loadavg()
    .map((l) => l.toFixed(1))
    .join(" ")}`;
}

function printProfile(times: readonly { label: string; kernel: string; elapsedMs: number }[]): void {
  const byKernel = new Map<string, { count: number; ms: number }>();
  for (const t of times) {
    const key = `${t.label.replace(/^block\.\d+/, "block")}  ${t.kernel}`;
    const sum = byKernel.get(key) ?? { count: 0, ms: 0 };
    byKernel.set(key, { count: sum.count + 1, ms: sum.ms + t.elapsedMs });
  }
  console.log(
    `decode step: ${times.length} dispatches, ${times.reduce((n, t) => n + t.elapsedMs, 0).toFixed(1)} ms, a pass each`,
  );
  for (const [key, { count, ms }] of [...byKernel].sort((a, b) => b[1].ms - a[1].ms)) {
    console.log(`${ms.toFixed(2).padStart(9)} ms ${String(count).padStart(4)} × ${key}`);
  }
}

function benchModel(folder = join(tmpdir(), "heed_bench", "gpt2")): BenchModel {
  if (!existsSync(join(folder, "model.safetensors"))) {
    const script = fileURLToPath(new URL("../fixtures/write_gpt2.mjs", import.meta.url));
    execFileSync(process.execPath, [script, folder], { stdio: "inherit" });
  }
  return { folder, layers: 12, width: 768, heads: 12, vocab: 50257, normEps: 1e-5 };
}

function randomIds(count: number, vocab: number): number[] {
  const random = createRandom(7);
  return Array.from({ length: count }, () => Math.floor(random.uniform() * (vocab - 1)));
}
