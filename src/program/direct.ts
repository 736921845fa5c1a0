import { HeedError } from "../core/errors.ts";
import { formatShape, formatTensor, numel, type Shape, shapeError } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import type { Value } from "../ops/op.ts";
import type { PlanDescription } from "./describe.ts";
import { dtypeOf, type HostArray, toHostArray } from "./host_array.ts";
import { plan } from "./plan.ts";
import { ProgramRecorder } from "./record.ts";
import type { Plan } from "./replay.ts";

/**
 * Numbers on the host with their shape, row-major: `Float32Array` is f32, `Uint16Array` f16 bit patterns, `Int32Array` i32,
 * `Uint32Array` u32.
 */
export interface ArrayTensor<A extends HostArray = HostArray> {
  readonly shape: Shape;
  readonly data: A;
}

/** What a direct call takes: numbers on the host, or a tensor that is on the GPU already. */
export type OpInput = ArrayTensor | Tensor;

type InputsOf = Readonly<Record<string, OpInput | undefined>>;
/** The values that a call's `record` gets for its inputs. */
export type ValuesOf<I> = { readonly [K in keyof I]: undefined extends I[K] ? Value | undefined : Value };

/** One direct call. `record` must follow from `op`, `attrs` and the inputs' shapes alone: a plan is kept by them. */
export interface DirectCall<I extends InputsOf> {
  /** Begins the messages and names the Program. */
  readonly op: string;
  readonly inputs: I;
  readonly attrs?: unknown;
  record(rec: ProgramRecorder, values: ValuesOf<I>): Readonly<Record<string, Value>>;
}

/** How a direct call runs. */
export interface DirectOptions<R extends "array" | "tensor" = "array" | "tensor"> {
  /** Give the results as arrays (default), or as tensors on the GPU that the caller disposes. */
  readonly as?: R;
  readonly signal?: AbortSignal;
  /** A row's result does not depend on the batch that it is in, bit for bit. Default: as the engine was made. */
  readonly deterministic?: boolean;
  /** Told the kernels of the call, in the order in which they ran. */
  readonly onKernels?: (kernels: readonly string[]) => void;
  /** Told what the call's plan takes: dispatches, and the bytes of inputs and intermediates; `String(description)` is a table. */
  readonly onPlan?: (description: PlanDescription) => void;
}

interface Entry {
  readonly planned: Promise<Plan>;
  /** The tensors that its bind groups hold. */
  readonly tensors: readonly Tensor[];
  /** Ends when the calls before have read their results: a plan has one set of inputs. */
  turn: Promise<unknown>;
  bytes: number;
  users: number;
  evicted: boolean;
}

/** Most plans that are kept, and most bytes that they hold together. */
const MAX_PLANS = 16;
const MAX_BYTES = 256 * 2 ** 20;

/** Programs of direct calls: planned once for each op, options and shapes, and kept while they are in use. */
export class DirectPrograms {
  readonly #device: Device;
  readonly #entries = new Map<string, Entry>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  #nextId = 0;
  #disposed = false;

  constructor(device: Device) {
    this.#device = device;
  }

  /** Number of plans that are kept now. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Runs a call and resolves with its outputs by name. Calls at once are safe: those of one plan take turns. Throws what the
   * ops throw, `USAGE` for inputs that are neither arrays nor tensors of this device, `ABORTED` and `DISPOSED`.
   */
  async run<I extends InputsOf>(
    call: DirectCall<I>,
    options?: DirectOptions<"array">,
  ): Promise<Record<string, ArrayTensor>>;
  async run<I extends InputsOf>(call: DirectCall<I>, options: DirectOptions<"tensor">): Promise<Record<string, Tensor>>;
  async run<I extends InputsOf>(call: DirectCall<I>, options?: DirectOptions): Promise<Record<string, OpInput>>;
  async run<I extends InputsOf>(call: DirectCall<I>, options: DirectOptions = {}): Promise<Record<string, OpInput>> {
    if (this.#disposed) throw new HeedError("DISPOSED", `${call.op}: called after dispose. Create a new engine.`);
    if (options.as !== undefined && options.as !== "array" && options.as !== "tensor") {
      throw new HeedError("USAGE", `${call.op}: as must be "array" or "tensor"; got "${String(options.as)}".`);
    }
    for (const [name, input] of Object.entries(call.inputs)) checkInput(call.op, name, input, this.#device);
    const { deterministic } = options;
    if (deterministic !== undefined && typeof deterministic !== "boolean") {
      const got = String(deterministic);
      throw new HeedError(
        "USAGE",
        `${call.op}: deterministic must be true or false; got ${got}. Leave it out for the engine's.`,
      );
    }
    const key = `${this.#keyOf(call)}; ${deterministic}`;
    const entry = this.#entries.get(key) ?? this.#prepare(call, deterministic);
    // The map's order is that of use.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.users++;
    try {
      const result = entry.turn.then(() => this.#execute(entry, call, options));
      entry.turn = result.catch(() => {});
      return await result;
    } catch (error) {
      if (await failed(entry.planned)) this.#forget(key, entry);
      throw error;
    } finally {
      entry.users--;
      this.#release(entry);
      this.#evict();
    }
  }

  /** Forgets every plan; those in use are freed when their calls are done. */
  clear(): void {
    for (const [key, entry] of this.#entries) this.#forget(key, entry);
  }

  /** {@link clear}, and refuses further calls. Idempotent. */
  dispose(): void {
    this.#disposed = true;
    this.clear();
  }

  #prepare<I extends InputsOf>(call: DirectCall<I>, deterministic: boolean | undefined): Entry {
    const tensors: Tensor[] = [];
    const record = async (): Promise<Plan> => {
      const rec = new ProgramRecorder(call.op);
      const values: Record<string, Value> = {};
      for (const [name, input] of Object.entries(call.inputs)) {
        if (input === undefined) continue;
        if (input instanceof Tensor) tensors.push(input);
        values[name] =
          input instanceof Tensor ? rec.weight(input, name) : rec.input(name, input.shape, dtypeOf(input.data));
      }
      for (const [name, value] of Object.entries(call.record(rec, values as ValuesOf<I>))) {
        // A view has no memory of its own to read.
        rec.output(name, value.view ? concatColumns(rec, [value]) : value);
      }
      return plan(this.#device, rec, { fuse: false, deterministic });
    };
    const planned = record();
    const entry: Entry = { planned, tensors, turn: planned.catch(() => {}), bytes: 0, users: 0, evicted: false };
    planned.then(
      (made) => {
        const { inputs, slabs } = made.describe().bytes;
        entry.bytes = inputs + slabs.reduce((a, b) => a + b, 0);
      },
      () => {},
    );
    return entry;
  }

  async #execute(
    entry: Entry,
    { op, inputs }: DirectCall<InputsOf>,
    { as = "array", signal, onKernels, onPlan }: DirectOptions,
  ): Promise<Record<string, OpInput>> {
    const planned = await entry.planned;
    for (const t of entry.tensors) {
      if (t.disposed) throw new HeedError("DISPOSED", `${op}: the tensor ${t.label} was disposed before the call ran.`);
    }
    for (const [name, input] of Object.entries(inputs)) {
      if (input && !(input instanceof Tensor)) planned.write(name, input.data as ArrayBufferView<ArrayBuffer>);
    }
    await planned.run({}, { signal });
    onKernels?.(planned.dispatches.map((d) => d.kernel));
    onPlan?.(planned.describe());
    const results: Record<string, OpInput> = {};
    try {
      for (const [name, { shape, dtype }] of planned.record.outputs) {
        results[name] =
          as === "tensor"
            ? copyOutput(this.#device, planned, name)
            : { shape, data: toHostArray(await readValues(planned, name), dtype, numel(shape)) };
      }
    } catch (error) {
      for (const made of Object.values(results)) if (made instanceof Tensor) made.dispose();
      throw error;
    }
    return results;
  }

  #keyOf({ op, inputs, attrs }: DirectCall<InputsOf>): string {
    const shapes = Object.entries(inputs).map(([name, input]) => {
      if (!input) return `${name} -`;
      if (input instanceof Tensor) return `${formatTensor(name, input)} #${this.#idOf(input)}`;
      return formatTensor(name, { shape: input.shape, dtype: dtypeOf(input.data) });
    });
    // JSON has no infinities and no NaN: all would be null.
    const exact = (_: string, value: unknown) =>
      typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
    return [op, JSON.stringify(attrs ?? null, exact), ...shapes].join("; ");
  }

  /** A number for the memory of a tensor, which its reshapes share. */
  #idOf(tensor: Tensor): number {
    const buffer = tensor.parts[0]?.buffer;
    if (!buffer) return -1;
    const id = this.#ids.get(buffer) ?? this.#nextId++;
    this.#ids.set(buffer, id);
    return id;
  }

  #evict(): void {
    let bytes = [...this.#entries.values()].reduce((sum, e) => sum + e.bytes, 0);
    for (const [key, entry] of this.#entries) {
      const stale = entry.tensors.some((t) => t.disposed);
      if (!stale && this.#entries.size <= MAX_PLANS && bytes <= MAX_BYTES) continue;
      bytes -= entry.bytes;
      this.#forget(key, entry);
    }
  }

  #forget(key: string, entry: Entry): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
    entry.evicted = true;
    this.#release(entry);
  }

  #release(entry: Entry): void {
    if (!entry.evicted || entry.users > 0) return;
    entry.planned.then(
      (planned) => planned.dispose(),
      () => {},
    );
  }
}

function checkInput(op: string, name: string, input: OpInput | undefined, device: Device): void {
  if (input === undefined) return;
  if (input instanceof Tensor) {
    if (input.device !== device) {
      throw new HeedError("USAGE", `${op}: ${name} must be on this engine's device; got a tensor of another one.`);
    }
    if (input.disposed) throw new HeedError("DISPOSED", `${op}: ${name} is a tensor that was disposed.`);
    return;
  }
  const { shape, data } = (input ?? {}) as Partial<ArrayTensor>;
  const known = [Float32Array, Uint16Array, Int32Array, Uint32Array].some((type) => data instanceof type);
  if (!Array.isArray(shape) || !known || !data) {
    const got = (data as object | undefined)?.constructor.name ?? typeof input;
    throw new HeedError(
      "USAGE",
      `${op}: ${name} must be a Tensor, or {shape, data} with a Float32Array, Uint16Array (f16 bits), Int32Array or Uint32Array; got ${got}.`,
    );
  }
  if (!shape.every((d) => Number.isInteger(d) && d >= 0) || numel(shape) !== data.length) {
    throw shapeError(
      op,
      `${name} must have as many values as its shape`,
      `${formatShape(shape)}, ${data.length} values`,
    );
  }
}

/** The bytes of an output; one without values has no memory. */
async function readValues(planned: Plan, name: string): Promise<ArrayBuffer> {
  const { shape } = planned.record.outputs.get(name) as Value;
  return numel(shape) === 0 ? new ArrayBuffer(0) : planned.readOutput(name);
}

/** A tensor with what an output holds now. */
function copyOutput(device: Device, planned: Plan, name: string): Tensor {
  const value = planned.record.outputs.get(name) as Value;
  const tensor = Tensor.create(device, name, value.shape, value.dtype);
  if (numel(value.shape) === 0) return tensor;
  const [part] = tensor.parts;
  const { buffer, offset, size } = planned.outputRange(name);
  const encoder = device.raw.createCommandEncoder({ label: `copy ${name}` });
  if (part) encoder.copyBufferToBuffer(buffer, offset, part.buffer, part.offsetBytes, Math.ceil(size / 4) * 4);
  device.raw.queue.submit([encoder.finish()]);
  return tensor;
}

async function failed(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => false,
    () => true,
  );
}
