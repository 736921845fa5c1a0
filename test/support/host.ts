import type { Device } from "../../src/gpu/device.ts";
import type { Tier } from "../../src/gpu/tiers.ts";
import type { Value } from "../../src/ops/op.ts";
import type { ProgramRecorder } from "../../src/program/record.ts";
import type { HostTensor } from "../../src/program/run_ops.ts";
import { toFloat16Bits } from "./float16.ts";

/** Numbers as an f32 tensor of a Program. */
export function f32(shape: readonly number[], data: ArrayLike<number>, kind?: HostTensor["kind"]): HostTensor {
  return { shape, data: Float32Array.from(data), kind };
}

/** Numbers as an f16 tensor of a Program. */
export function f16(shape: readonly number[], data: ArrayLike<number>, kind?: HostTensor["kind"]): HostTensor {
  return { shape, data: toFloat16Bits(data), kind };
}

/** Integers as a u32 tensor of a Program. */
export function u32(shape: readonly number[], data: ArrayLike<number>, kind?: HostTensor["kind"]): HostTensor {
  return { shape, data: Uint32Array.from(data), kind };
}

/** Integers as an i32 tensor of a Program. */
export function i32(shape: readonly number[], data: ArrayLike<number>): HostTensor {
  return { shape, data: Int32Array.from(data) };
}

/** Tiers whose GPU variants differ; with f16 they are the same pipelines again. */
export const GPU_VARIANT_TIERS: readonly Tier[] = ["core", "subgroups"];

/** Runs `body` with the variants that GPUs get, on a CPU adapter too. */
export async function withGpuVariants(device: Device, body: () => Promise<void>): Promise<void> {
  const facts = device.facts;
  const set = (value: Device["facts"]) =>
    Object.defineProperty(device, "facts", { value, configurable: true, writable: true });
  set({ ...facts, software: false });
  try {
    await body();
  } finally {
    set(facts);
  }
}

/** Records the gradients of the last recorded op from those of its outputs, as autodiff would. */
export function backwardOf(
  rec: ProgramRecorder,
  douts: readonly Value[],
  needs: readonly string[],
): Record<string, Value> {
  const node = rec.nodes.at(-1);
  if (!node?.op.backward) throw new Error(`${node?.op.name} has no backward`);
  return node.op.backward(rec, node, douts, new Set(needs));
}

/** Throws unless `run` throws a `HeedError` of code SHAPE with exactly this message. */
export async function assertShapeError(run: () => Promise<unknown>, message: string): Promise<void> {
  let thrown: unknown;
  try {
    await run();
  } catch (error) {
    thrown = error;
  }
  const error = thrown as { code?: string; message?: string } | undefined;
  if (error?.code === "SHAPE" && error.message === message) return;
  throw new Error(`expected SHAPE "${message}", got ${error ? `${error.code} "${error.message}"` : "no error"}`);
}
