import { bytesPerElement } from "../core/dtype.ts";
import { HeedError, invariant, throwIfAborted } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import type { Dims, Dispatch, Value, Workgroups } from "../ops/op.ts";
import { describePlan, type PlanDescription } from "./describe.ts";
import type { MemoryLayout } from "./memory.ts";
import type { PlanBuffers } from "./plan.ts";
import { type ProgramRecorder, rootOf } from "./record.ts";
import { profilePlan, type DispatchTime } from "./profile.ts";

/** A dispatch with everything resolved. */
export interface PlannedDispatch {
  readonly label: string;
  readonly kernel: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly workgroups: Dispatch["workgroups"];
}

/** Longest that one submit should keep the GPU, in milliseconds: watchdogs count per submit, and abort is looked at between. */
const SUBMIT_BUDGET_MS = 50;

/** Dispatches of a plan's first submit, before anything is known of their cost. */
const FIRST_PIECE = 8;

/**
 * A planned Program. Replaying encodes its dispatches and submits them: no allocation, no compilation, no readback.
 * The plan owns its slabs and input buffers (freed by {@link dispose}); weights and states belong to their makers.
 */
export class Plan {
  readonly device: Device;
  readonly label: string;
  readonly dispatches: readonly PlannedDispatch[];
  readonly layout: MemoryLayout;
  readonly record: ProgramRecorder;
  readonly #buffers: PlanBuffers;
  /** Dispatches of the next submit. */
  #piece = FIRST_PIECE;
  #turn: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    device: Device,
    record: ProgramRecorder,
    dispatches: readonly PlannedDispatch[],
    layout: MemoryLayout,
    buffers: PlanBuffers,
  ) {
    this.device = device;
    this.label = record.label;
    this.record = record;
    this.dispatches = dispatches;
    this.layout = layout;
    this.#buffers = buffers;
  }

  /** Writes an input by name; `data` in the input's dtype, no longer than its shape. */
  write(name: string, data: ArrayBufferView<ArrayBuffer>): void {
    const value = this.record.inputs.get(name);
    const buffer = value && this.#buffers.inputs.get(value);
    invariant(value && buffer, `program ${this.label}: no input "${name}"`);
    const bytes = numel(value.shape) * bytesPerElement(value.dtype);
    invariant(
      data.byteLength <= bytes,
      `program ${this.label}: ${data.byteLength} bytes written to "${name}" of ${bytes}`,
    );
    // Buffers are written in whole words, and an odd number of halves ends within one.
    const tail = data.byteLength % 4;
    this.device.raw.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength - tail);
    if (tail === 0) return;
    const word = new Uint8Array(4);
    word.set(new Uint8Array(data.buffer, data.byteOffset + data.byteLength - tail, tail));
    this.device.raw.queue.writeBuffer(buffer, data.byteLength - tail, word);
  }

  /** The buffer and range of a kept output of one part, for copies on the GPU. */
  outputRange(name: string): { buffer: GPUBuffer; offset: number; size: number } {
    const value = this.record.outputs.get(name);
    invariant(
      value && (value.tensor?.parts.length ?? 1) === 1,
      `program ${this.label}: no output "${name}" of one part`,
    );
    return this.#range(value);
  }

  /** Reads a kept output back. */
  async readOutput(name: string): Promise<ArrayBuffer> {
    const value = this.record.outputs.get(name);
    invariant(value, `program ${this.label}: no output "${name}"`);
    if (value.tensor) return value.tensor.read();
    invariant(!value.view, `program ${this.label}: output "${name}" is a view; keep its base`);
    const { buffer, offset, size } = this.#range(value);
    return this.device.read(buffer, offset, size);
  }

  /**
   * One submit with one compute pass, at once; for steps that are short. `after` may add copies to the same submit.
   */
  replay(dims: Dims = {}, after?: (encoder: GPUCommandEncoder) => void): void {
    this.#checkUsable();
    this.#submit(0, this.dispatches.length, dims, after);
  }

  /**
   * Replays in as many submits as keep each under about 50 ms, and looks at the signal between them. Resolves when
   * the GPU is done. What was submitted before an abort has been computed; states it wrote stay written.
   */
  async run(dims: Dims = {}, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#checkUsable();
    const count = this.dispatches.length;
    for (let from = 0; from < count; ) {
      throwIfAborted(options.signal, this.label);
      this.#checkUsable();
      const to = Math.min(count, from + this.#piece);
      const started = performance.now();
      this.#submit(from, to, dims);
      await this.device.guard(this.device.raw.queue.onSubmittedWorkDone());
      this.#adapt(to - from, performance.now() - started);
      from = to;
    }
    this.device.check();
  }

  /**
   * Runs `work` when the calls before it are done. A plan has one set of inputs and slabs, so whoever writes, runs and
   * reads it over several turns of the event loop does so in here.
   */
  turn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Sizes the next piece by how long this one took; in steps, because dispatches differ. */
  #adapt(dispatches: number, elapsedMs: number): void {
    const fitting = (dispatches * SUBMIT_BUDGET_MS) / Math.max(elapsedMs, 0.1);
    this.#piece = Math.max(1, Math.floor(Math.min(fitting, this.#piece * 4)));
  }

  /** GPU time of each dispatch: a pass per dispatch, so the sum exceeds a replay. Wall time where there are no timestamps. */
  profile(dims: Dims = {}): Promise<DispatchTime[]> {
    this.#checkUsable();
    return profilePlan(this, dims);
  }

  /** The plan in numbers: dispatches, passes, bytes, slabs with and without reuse. */
  describe(): PlanDescription {
    return describePlan(this);
  }

  /** Encodes one dispatch into a pass; a count of 0 in any dimension skips it. */
  encode(pass: GPUComputePassEncoder, dispatch: PlannedDispatch, dims: Dims): void {
    const [x, y = 1, z = 1] = countWorkgroups(dispatch, dims);
    if (x === 0 || y === 0 || z === 0) return;
    pass.setPipeline(dispatch.pipeline);
    pass.setBindGroup(0, dispatch.group);
    pass.dispatchWorkgroups(x, y, z);
  }

  /** Frees what the plan owns. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#buffers.dispose();
  }

  #submit(from: number, to: number, dims: Dims, after?: (encoder: GPUCommandEncoder) => void): void {
    const encoder = this.device.raw.createCommandEncoder({ label: this.label });
    const pass = encoder.beginComputePass({ label: this.label });
    for (let i = from; i < to; i++) this.encode(pass, this.dispatches[i] as PlannedDispatch, dims);
    pass.end();
    after?.(encoder);
    this.device.raw.queue.submit([encoder.finish()]);
  }

  #range(value: Value): { buffer: GPUBuffer; offset: number; size: number } {
    const size = numel(value.shape) * bytesPerElement(value.dtype);
    const part = value.tensor?.parts[0];
    if (part) return { buffer: part.buffer, offset: part.offsetBytes, size };
    const input = this.#buffers.inputs.get(value);
    if (input) return { buffer: input, offset: 0, size };
    const slot = this.layout.slots.get(rootOf(value));
    const slab = slot && this.#buffers.slabs[slot.slab];
    invariant(slot && slab, `program ${this.label}: ${value.name} has no memory`);
    return { buffer: slab, offset: slot.offsetBytes, size };
  }

  #checkUsable(): void {
    if (this.#disposed) throw new HeedError("DISPOSED", `program ${this.label}: replayed after it was disposed`);
    this.device.checkKernels(`program ${this.label}`, this.dispatches);
    this.device.check();
  }
}

function countWorkgroups(dispatch: PlannedDispatch, dims: Dims): Workgroups {
  return typeof dispatch.workgroups === "function" ? dispatch.workgroups(dims) : dispatch.workgroups;
}
