import { HeedError } from "../core/errors.ts";
import { findDrivers } from "../gpu/drivers_node.ts";
import { nodeGpu, noAdapter } from "../gpu/platform_node.ts";
import { chooseSoftwareGpu, isRelaunched, relaunch } from "../gpu/relaunch_node.ts";
import type { Tier } from "../gpu/tiers.ts";
import { folderTuneStore } from "../gpu/tune_store_node.ts";
import { openSource } from "../sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../tasks/engine.ts";
import { note } from "./output.ts";

/** The options that every command on the GPU has. */
export interface GpuOptions {
  /** False under `--no-software-gpu`. */
  softwareGpu: boolean;
  /** False under `--no-tune`. */
  tune?: boolean;
  tier?: Tier;
}

/** An engine on the GPU that {@link openGpu} found, with the options that every command has. */
export function openEngine(gpu: GPU, options: GpuOptions): Promise<Engine> {
  const engine = { gpu, tier: options.tier, autotune: mayTune(options) ? undefined : false };
  return createEngineWith(engine, openSource, async () => folderTuneStore());
}

/** False under `--no-tune`, and where the environment says `HEED_TUNE=0`. */
export function mayTune({ tune = true }: GpuOptions): boolean {
  return tune && process.env["HEED_TUNE"] !== "0";
}

/** Thrown to end this process with the exit code of the one that took its place. */
export class Replaced extends Error {
  constructor(readonly exitCode: number) {
    super("this command was started again with a software GPU");
  }
}

/**
 * WebGPU with at least one adapter. Where there is none, starts the command again on a software GPU,
 * says so once on stderr, and throws {@link Replaced} when that has ended. Throws `NO_WEBGPU`, and
 * `NO_ADAPTER` if there is no software GPU either or the options forbid it.
 */
export async function openGpu(options: GpuOptions): Promise<GPU> {
  // Dawn prints warnings of its own when it finds no driver, so it is not asked where the answer is plain.
  const hopeless = process.platform === "linux" && findDrivers().every((driver) => !driver.present);
  if (!hopeless) {
    const gpu = await nodeGpu();
    if (await gpu.requestAdapter()) return gpu;
  }
  if (isRelaunched()) throw noAdapter();
  if (!options.softwareGpu) {
    const error = noAdapter();
    throw new HeedError(error.code, `${error.message} --no-software-gpu forbids the software GPU.`);
  }
  const software = await chooseSoftwareGpu();
  if (!software) {
    // Without Dawn there is no adapter either, and its absence is the better message.
    await nodeGpu();
    throw noAdapter();
  }
  note(`heed: no GPU driver found; starting again on ${software.name}. --no-software-gpu turns this off.`);
  throw new Replaced(await relaunch(software.environment));
}
