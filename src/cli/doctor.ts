import { Command, Option } from "commander";
import { isHeedError } from "../core/errors.ts";
import { Device } from "../gpu/device.ts";
import { findDrivers } from "../gpu/drivers_node.ts";
import { folderTuneStore } from "../gpu/tune_store_node.ts";
import type { TuneReport } from "../gpu/tune.ts";
import { measureSpeed, type Speed } from "../gpu/probe.ts";
import { type Tier, TIERS } from "../gpu/tiers.ts";
import { EXIT, exitCode } from "./exit_codes.ts";
import { type GpuOptions, mayTune, openGpu } from "./gpu.ts";
import { formatBytes, note, outColors, printLine } from "./output.ts";

/** What `heed doctor --json` prints; without an adapter the fields that need one are null. */
export interface DoctorReport {
  adapter: { vendor: string; architecture: string; device: string; description: string } | null;
  tier: Tier | null;
  features: string[];
  /** Sizes of a subgroup; 0 without subgroups. */
  subgroup: { min: number; max: number } | null;
  limits: Record<string, number>;
  drivers: { file: string; origin: string; present: boolean }[];
  speed: Speed | null;
  /** Which kernels were chosen by measuring, now or before, and where that is kept; or why none were. */
  tuning: TuneReport | { enabled: false; reason: string } | null;
  /** What is missing, and what to do about it. */
  problems: string[];
}

interface DoctorOptions extends GpuOptions {
  json?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed doctor                   what this machine has, and what to do if something is missing
  $ heed doctor --json            the same for scripts
  $ heed doctor --tier core       with nothing but WebGPU's defaults

Exit codes: 0 ready, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed doctor`; `done` receives the exit code. */
export function doctorCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("doctor")
    .description("Show the GPU adapter, its limits and speed, and what to do if something is missing")
    .addOption(new Option("--tier <tier>", "use no more than this tier").choices(TIERS))
    .option("--json", "print one JSON object")
    .option("--tune", "measure kernels on a CPU adapter too")
    .option("--no-tune", "choose kernels by rules, without measuring a few")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText("after", EXAMPLES)
    .action(async (options: DoctorOptions) => done(await doctor(options, signal)));
}

async function doctor(options: DoctorOptions, signal: AbortSignal): Promise<number> {
  const { report, code } = await examine(options, signal);
  if (options.json) printLine(JSON.stringify(report, null, 2));
  else printReport(report);
  return code;
}

async function examine(options: DoctorOptions, signal: AbortSignal): Promise<{ report: DoctorReport; code: number }> {
  const drivers = findDrivers().map(({ file, origin, present }) => ({ file, origin, present }));
  let device: Device;
  try {
    const gpu = await openGpu(options);
    device = await Device.request({ gpu, tier: options.tier });
  } catch (error) {
    if (!isHeedError(error, "NO_ADAPTER") && !isHeedError(error, "NO_WEBGPU")) throw error;
    const none = { adapter: null, tier: null, features: [], subgroup: null, limits: {} };
    const problems = [error.message];
    return { report: { ...none, drivers, speed: null, tuning: null, problems }, code: exitCode(error) };
  }
  try {
    note("heed: measuring speed, about a second …");
    const speed = await measureSpeed(device, { signal });
    const { facts, adapter, raw } = device;
    const report = {
      adapter: { ...adapter },
      tier: facts.tier,
      features: [...raw.features].sort(),
      subgroup: { min: facts.subgroupMin, max: facts.subgroupMax },
      limits: readLimits(raw.limits),
      drivers,
      speed,
      tuning: await tune(device, options),
      problems: findProblems(device),
    };
    return { report, code: EXIT.OK };
  } finally {
    device.dispose();
  }
}

/** Measures kernels where engines do, or tells why they do not. */
async function tune(device: Device, options: DoctorOptions): Promise<DoctorReport["tuning"]> {
  if (!mayTune(options)) {
    return { enabled: false, reason: options.tune === false ? "--no-tune" : "HEED_TUNE=0 in the environment" };
  }
  if (device.facts.software && options.tune !== true) {
    return {
      enabled: false,
      reason: "a CPU adapter, where compiling the candidates takes longer; --tune measures all the same",
    };
  }
  const { autotune } = await import("../program/tune.ts");
  return autotune(device, { store: folderTuneStore() });
}

/** Limits are getters of the prototype, which neither JSON nor spread see. */
function readLimits(limits: GPUSupportedLimits): Record<string, number> {
  const read: Record<string, number> = {};
  for (const name of Object.keys(Object.getPrototypeOf(limits)).sort()) {
    const value = (limits as unknown as Record<string, unknown>)[name];
    if (typeof value === "number") read[name] = value;
  }
  return read;
}

function findProblems(device: Device): string[] {
  const problems: string[] = [];
  if (device.facts.software) {
    problems.push(
      "The adapter computes on the CPU. If this machine has a graphics card, install its Vulkan driver " +
        "(Debian: mesa-vulkan-drivers for AMD and Intel, nvidia-driver for NVIDIA).",
    );
  }
  if (!device.timestamps) {
    problems.push("The device has no timestamp-query: --profile shows wall time instead of GPU time.");
  }
  return problems;
}

const SHOWN_LIMITS: Record<string, (value: number) => string> = {
  maxBufferSize: formatBytes,
  maxStorageBufferBindingSize: formatBytes,
  maxStorageBuffersPerShaderStage: String,
  maxComputeWorkgroupStorageSize: formatBytes,
  maxComputeInvocationsPerWorkgroup: String,
};

function printReport(report: DoctorReport): void {
  const { bold, yellow } = outColors;
  const row = (title: string, text: string) => printLine(`${bold(title.padEnd(10))}${text}`);
  const { adapter, subgroup, speed } = report;
  if (adapter) {
    row("adapter", `${adapter.description || adapter.device} (${adapter.vendor} ${adapter.architecture})`);
  } else row("adapter", "none");
  if (report.tier) row("tier", report.tier);
  if (subgroup?.max) row("subgroups", `${subgroup.min} to ${subgroup.max} invocations`);
  if (report.features.length > 0) row("features", report.features.join(", "));
  let title = "limits";
  for (const [name, format] of Object.entries(SHOWN_LIMITS)) {
    const value = report.limits[name];
    if (value === undefined) continue;
    row(title, `${name} ${format(value)}`);
    title = "";
  }
  title = "drivers";
  for (const driver of report.drivers) {
    row(title, `${driver.file} (${driver.origin}${driver.present ? "" : ", missing"})`);
    title = "";
  }
  if (report.tuning?.enabled === false) row("kernels", `chosen by rules (${report.tuning.reason})`);
  if (report.tuning?.enabled) {
    const { results, kept, elapsedMs, open, problem } = report.tuning;
    row(
      "kernels",
      `${results.length} chosen by measuring, ${kept} of them before, in ${elapsedMs} ms; ${open.length} open`,
    );
    for (const { bucket, kernel } of results) row("", `${bucket}: ${kernel}`);
    if (problem) row("", `kept results: ${problem}`);
  }
  if (speed) row("speed", `${speed.fmaGflops} GFLOP/s multiply-add (f32), ${speed.copyGBs} GB/s copied`);
  for (const problem of report.problems) printLine(`${yellow("problem".padEnd(10))}${problem}`);
  if (report.problems.length === 0) printLine("All is well.");
}
