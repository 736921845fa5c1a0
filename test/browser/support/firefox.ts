import { spawnSync } from "node:child_process";
import { findSoftwareGpus } from "../../../src/gpu/drivers_node.ts";

/** How to start Firefox so that it gives WebGPU. */
export interface FirefoxLaunch {
  readonly executablePath: string;
  readonly version: string;
  readonly prefs: Record<string, unknown>;
  readonly env: Record<string, string>;
}

/** Firefox blocks WebGPU on software drivers, and compositing without a screen, unless told. */
const PREFS = {
  "dom.webgpu.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  "gfx.webrender.all": true,
  "layers.acceleration.force-enabled": true,
  "gfx.vulkan.force-enabled": true,
};

/** The Firefox of this machine (`HEED_FIREFOX`, else firefox-esr or firefox on the path), on the system's software driver; undefined without one. */
export async function findFirefox(): Promise<FirefoxLaunch | undefined> {
  const names = process.env["HEED_FIREFOX"] ? [process.env["HEED_FIREFOX"]] : ["firefox-esr", "firefox"];
  for (const name of names) {
    const executablePath = spawnSync("which", [name], { encoding: "utf8" }).stdout?.trim();
    if (!executablePath) continue;
    const version = spawnSync(executablePath, ["--version"], { encoding: "utf8" }).stdout?.trim() ?? name;
    const [gpu] = await findSoftwareGpus();
    // Its sandboxes keep the driver's files from it.
    const env = { MOZ_DISABLE_CONTENT_SANDBOX: "1", MOZ_DISABLE_GPU_SANDBOX: "1", ...vulkan(gpu?.environment) };
    return { executablePath, version, prefs: PREFS, env };
  }
  return undefined;
}

/** The driver alone: the loader that Heed unpacks for Node is not Firefox's. */
function vulkan(environment: Record<string, string> = {}): Record<string, string> {
  const driver = process.env["VK_DRIVER_FILES"] ?? environment["VK_DRIVER_FILES"];
  return driver ? { VK_DRIVER_FILES: driver } : {};
}
