import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { findPackage, findSoftwareGpus, type SoftwareGpu } from "./drivers_node.ts";

/** Set in a process that was started again, so that it happens at most once. */
const GUARD = "HEED_RELAUNCHED";

const PROBE =
  'import { pathToFileURL } from "node:url";' +
  "const { create } = await import(pathToFileURL(process.argv[1]));" +
  "const gpu = create([]);" +
  "process.exit((await gpu.requestAdapter()) ? 0 : 1);";

/**
 * True if a fresh process finds an adapter under `environment`. The loader reads its variables when a
 * process starts, and a driver that does not fit may crash: hence a process of its own.
 */
export function hasAdapter(environment: Readonly<Record<string, string | undefined>>): boolean {
  const dawn = findPackage("webgpu");
  if (!dawn) return false;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", PROBE, `${dawn.folder}/index.js`], {
    env: { ...process.env, ...environment },
    stdio: "ignore",
    timeout: 60_000,
  });
  return run.status === 0;
}

/** The first software adapter of this machine that works, in {@link findSoftwareGpus}' order. */
export async function chooseSoftwareGpu(): Promise<SoftwareGpu | undefined> {
  const candidates = await findSoftwareGpus();
  return candidates.find((candidate) => hasAdapter(candidate.environment));
}

/** True in a process that {@link relaunch} started. */
export function isRelaunched(): boolean {
  return process.env[GUARD] === "1";
}

/**
 * Runs this very command again under `environment` and resolves with its exit code (128 + number for a
 * signal). Standard streams are shared, and signals that reach this process are passed on.
 */
export function relaunch(environment: Readonly<Record<string, string>>): Promise<number> {
  const argv = [...process.execArgv, ...process.argv.slice(1)];
  const env = { ...process.env, ...environment, [GUARD]: "1" };
  const child = spawn(process.execPath, argv, { env, stdio: "inherit" });
  // A terminal sends Ctrl-C to both processes, so the child may get it twice: it has to bear that.
  const passOn = (signal: NodeJS.Signals) => child.kill(signal);
  const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, passOn);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      for (const name of signals) process.off(name, passOn);
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0));
    });
  });
}
