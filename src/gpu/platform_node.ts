import { HeedError } from "../core/errors.ts";
import { DRIVER_REMEDY, findDrivers } from "./drivers_node.ts";

// One instance a process. It has to stay referenced: Dawn crashes when the instance is collected while a
// device of it is in use. A module variable does not keep the process alive, a property of globalThis does.
let instance: Promise<GPU> | undefined;

/**
 * Dawn's WebGPU entry point, the same object at every call. Defines the WebGPU constants and classes
 * (`GPUBufferUsage`, …) on `globalThis` where they are absent. Throws `NO_WEBGPU` if the optional
 * package `webgpu` is missing or cannot be loaded.
 *
 * @example
 * const device = await Device.request({ gpu: await nodeGpu() });
 */
export function nodeGpu(): Promise<GPU> {
  instance ??= loadDawn();
  return instance;
}

async function loadDawn(): Promise<GPU> {
  let dawn: typeof import("webgpu");
  try {
    dawn = await import("webgpu");
  } catch (cause) {
    instance = undefined;
    throw noWebGpu(cause);
  }
  for (const [name, value] of Object.entries(dawn.globals)) {
    if (!(name in globalThis)) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
  }
  return dawn.create([]);
}

/**
 * An adapter of this machine. Throws `NO_ADAPTER` with the drivers that were looked at and both ways
 * to install one, or `NO_WEBGPU` as {@link nodeGpu} does.
 */
export async function requestNodeAdapter(options?: GPURequestAdapterOptions): Promise<GPUAdapter> {
  const gpu = await nodeGpu();
  const adapter = await gpu.requestAdapter(options);
  if (!adapter) throw noAdapter();
  return adapter;
}

/** The `NO_ADAPTER` error of Node: what is needed, which driver files there are, how to get one. */
export function noAdapter(): HeedError {
  const drivers = findDrivers();
  const got = drivers.map((driver) => `${driver.file}${driver.present ? "" : " (missing)"}`).join(", ");
  return new HeedError(
    "NO_ADAPTER",
    `device: WebGPU needs a Vulkan, Metal or D3D12 driver; got ${got || "no driver files"}, ` +
      `and none gave an adapter. ${DRIVER_REMEDY}; \`heed doctor\` shows what is there.`,
  );
}

function noWebGpu(cause: unknown): HeedError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const missing = code === "ERR_MODULE_NOT_FOUND" && String((cause as Error).message).includes("'webgpu'");
  const got = missing ? "it is not installed" : `loading it failed (${cause instanceof Error ? cause.message : cause})`;
  const remedy = missing
    ? "Install it with `npm install webgpu`"
    : `It has builds for Linux, macOS and Windows on x64 and arm64; this is ${process.platform} ${process.arch}. Try \`npm install webgpu\` again`;
  return new HeedError("NO_WEBGPU", `device: Node needs the package webgpu (Dawn); ${got}. ${remedy}.`, { cause });
}
