import copySource from "../../shaders/probe_copy.wgsl";
import fmaSource from "../../shaders/probe_fma.wgsl";
import { throwIfAborted } from "../core/errors.ts";
import { type KernelVariant, packParams } from "./compose.ts";
import type { Device } from "./device.ts";

/** What a device gives when nothing but arithmetic, or nothing but memory, limits it. */
export interface Speed {
  /** Fused multiply-adds in f32, 10⁹ operations a second; one multiply-add counts as two. */
  fmaGflops: number;
  /** Bytes copied from one storage buffer to another, 10⁹ a second; each byte counts once. */
  copyGBs: number;
}

const WORKGROUP = 64;
const FMA_GROUPS = 1024;
const FLOPS_PER_ROUND = FMA_GROUPS * WORKGROUP * 8 * 4 * 2;
const COPY_BYTES = 64 * 2 ** 20;
const COPY_GROUPS = 2048;

interface Workload {
  variant: KernelVariant;
  buffers: GPUBuffer[];
  groups: number;
  /** Values of the kernel's `Params`. */
  params: Record<string, number>;
}

/**
 * Measures arithmetic and memory speed in about one second of wall time, `budgetMs` / 2 each. Leaves
 * nothing allocated. Throws `ABORTED`, and what the device throws.
 */
export async function measureSpeed(
  device: Device,
  options: { budgetMs?: number; signal?: AbortSignal } = {},
): Promise<Speed> {
  const { budgetMs = 1000, signal } = options;
  const fma = await measureFma(device, budgetMs / 2, signal);
  const copy = await measureCopy(device, budgetMs / 2, signal);
  return { fmaGflops: round(fma / 1e9), copyGBs: round(copy / 1e9) };
}

async function measureFma(device: Device, budgetMs: number, signal?: AbortSignal): Promise<number> {
  const variant = { kernel: { file: "probe_fma.wgsl", code: fmaSource } };
  const out = device.createBuffer("probe.out", FMA_GROUPS * WORKGROUP * 4, GPUBufferUsage.STORAGE);
  try {
    const work = { variant, buffers: [out], groups: FMA_GROUPS, params: { rounds: 0, factor: 0.5, offset: 1 } };
    let rounds = 1;
    // Software adapters compile at the first dispatch.
    await timeRun(device, { ...work, params: { ...work.params, rounds } });
    let best = 0;
    const end = performance.now() + budgetMs;
    do {
      throwIfAborted(signal, "speed probe");
      const elapsedMs = await timeRun(device, { ...work, params: { ...work.params, rounds } });
      best = Math.max(best, (FLOPS_PER_ROUND * rounds * 1000) / elapsedMs);
      // Long enough that the submit itself does not count, short enough for a watchdog.
      if (elapsedMs < 20) rounds *= elapsedMs < 5 ? 4 : 2;
    } while (performance.now() < end);
    return best;
  } finally {
    device.destroyBuffer(out);
  }
}

async function measureCopy(device: Device, budgetMs: number, signal?: AbortSignal): Promise<number> {
  const bytes = Math.min(COPY_BYTES, device.raw.limits.maxStorageBufferBindingSize);
  const variant = { kernel: { file: "probe_copy.wgsl", code: copySource } };
  const origin = device.createBuffer("probe.origin", bytes, GPUBufferUsage.STORAGE);
  const copied = device.createBuffer("probe.copied", bytes, GPUBufferUsage.STORAGE);
  try {
    const params = { count: bytes / 16, stride: COPY_GROUPS * WORKGROUP };
    const work = { variant, buffers: [origin, copied], groups: COPY_GROUPS, params };
    let repeats = 1;
    // The first touch of a page costs more than a copy of it.
    await timeRun(device, work);
    let best = 0;
    const end = performance.now() + budgetMs;
    do {
      throwIfAborted(signal, "speed probe");
      const elapsedMs = await timeRun(device, work, repeats);
      best = Math.max(best, (bytes * repeats * 1000) / elapsedMs);
      if (elapsedMs < 20) repeats *= 2;
    } while (performance.now() < end);
    return best;
  } finally {
    device.destroyBuffer(origin);
    device.destroyBuffer(copied);
  }
}

/** Wall time in ms of `repeats` dispatches in one pass, from submit to done. */
async function timeRun(device: Device, work: Workload, repeats = 1): Promise<number> {
  const pipeline = await device.pipeline(work.variant);
  const bytes = packParams(pipeline.params, work.params, pipeline.label);
  const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
  const uniform = device.createBuffer("probe.params", bytes.byteLength, usage);
  try {
    device.raw.queue.writeBuffer(uniform, 0, bytes);
    const bound = [...work.buffers, uniform];
    const group = device.raw.createBindGroup({
      layout: pipeline.layout,
      entries: bound.map((buffer, binding) => ({ binding, resource: { buffer } })),
    });
    await device.idle();
    const encoder = device.raw.createCommandEncoder({ label: pipeline.label });
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline.compute);
    pass.setBindGroup(0, group);
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(work.groups);
    pass.end();
    const commands = encoder.finish();
    const start = performance.now();
    device.raw.queue.submit([commands]);
    await device.idle();
    return performance.now() - start;
  } finally {
    device.destroyBuffer(uniform);
  }
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
