import { HeedError, invariant } from "../core/errors.ts";
import { alignUp, formatShape, numel, type Shape } from "../core/shape.ts";
import { bytesPerElement, type DType } from "../core/dtype.ts";
import { type KernelVariant, packParams, variantKey } from "../gpu/compose.ts";
import type { Device, GpuFacts } from "../gpu/device.ts";
import type { Pipeline } from "../gpu/pipelines.ts";
import type { Bound, Dispatch, LowerContext, OpNode, Value, Workgroups } from "../ops/op.ts";
import { liveNodes } from "./liveness.ts";
import { fuse } from "./fuse.ts";
import { layOut, type MemoryLayout, type Slot, type Touches } from "./memory.ts";
import { type ProgramRecorder, rootOf } from "./record.ts";
import { Plan, type PlannedDispatch } from "./replay.ts";

/** How a record becomes a plan. */
export interface PlanOptions {
  /** Apply the fusion table (default true). A plan without it is for tests and for reading. */
  readonly fuse?: boolean;
  /** Overrules the device's `deterministic`. */
  readonly deterministic?: boolean;
  /** Where kernels are chosen without regard to the number of rows: whether as for few (a decode step) or for many (default). */
  readonly rows?: "few" | "many";
}

interface Lowered {
  readonly node: OpNode;
  readonly dispatch: Dispatch;
}

/**
 * Turns a record into a {@link Plan}: drops what nothing depends on, fuses, chooses kernels, compiles them in
 * parallel, lays intermediates out in slabs and builds every bind group. Nothing of this happens again at replay.
 */
export async function plan(device: Device, record: ProgramRecorder, options: PlanOptions = {}): Promise<Plan> {
  const kept = new Set([...record.outputs.values()].map(rootOf));
  let nodes = liveNodes(record.nodes, record.outputs.values());
  const facts = factsFor(device, options);
  if (options.fuse ?? true) nodes = fuse(nodes, new Set(record.outputs.values()), facts);
  const lowered = nodes.flatMap((node) => lowerUsable(node, device, facts));
  const pipelines = await Promise.all(lowered.map(({ dispatch }) => device.pipeline(dispatch.kernel)));
  const touches = lowered.map(({ dispatch, node }, i) => findTouches(dispatch, pipelines[i] as Pipeline, node));
  const layout = layOut(touches, kept, device.raw.limits.maxBufferSize);
  checkBindable(device, record, layout);
  const build = () => {
    const buffers = new PlanBuffers(device, record, layout);
    try {
      return buildPlan(device, record, lowered, pipelines, layout, buffers);
    } catch (error) {
      buffers.dispose();
      throw error;
    }
  };
  return device.scoped(`plan ${record.label}`, build, (planned) => planned.dispose());
}

function factsFor({ facts }: Device, { deterministic, rows = "many" }: PlanOptions): GpuFacts {
  const { fixedRows, choices, ...rest } = facts;
  return (deterministic ?? fixedRows !== undefined) ? { ...rest, fixedRows: rows } : { ...rest, choices };
}

/** Throws `LIMIT` for an intermediate or input that no binding can hold. */
function checkBindable(device: Device, record: ProgramRecorder, layout: MemoryLayout): void {
  const limit = device.raw.limits.maxStorageBufferBindingSize;
  const check = (value: Value, bytes: number) => {
    if (bytes <= limit) return;
    throw new HeedError(
      "LIMIT",
      `program ${record.label}: ${value.name} ${formatShape(value.shape)} needs ${bytes} bytes, a binding holds ${limit}. Use shorter sequences, a smaller batch or a device with larger limits.`,
    );
  };
  for (const [value, slot] of layout.slots) check(value, slot.sizeBytes);
  for (const value of record.inputs.values()) check(value, numel(value.shape) * bytesPerElement(value.dtype));
}

/** Lowers a node to kernels that are in use. Throws `UNSUPPORTED` naming the one that is not and has no other in its place. */
function lowerUsable(node: OpNode, device: Device, own: GpuFacts): Lowered[] {
  const lowered = lower(node, own);
  const refused = findRefused(lowered, device);
  if (refused === undefined) return lowered;
  for (const facts of fallbackFacts(own)) {
    try {
      const other = lower(node, facts);
      if (findRefused(other, device) === undefined) return other;
    } catch (error) {
      // The op has no kernel for such a device.
      if (!(error instanceof HeedError)) throw error;
    }
  }
  throw new HeedError(
    "UNSUPPORTED",
    `${node.label}: the kernel ${refused} gave wrong results in the self test, and there is no other for it. Update the GPU driver or the browser.`,
  );
}

function findRefused(lowered: readonly Lowered[], device: Device): string | undefined {
  return lowered.map(({ dispatch }) => variantKey(dispatch.kernel)).find((key) => device.isRefused(key));
}

/** Lesser devices whose kernels this one runs too, nearest first; last those for the other kind of adapter. */
function fallbackFacts(facts: GpuFacts): GpuFacts[] {
  const plain = { subgroups: false, subgroupMin: 0, subgroupMax: 0 };
  const { choices, ...byRule } = facts;
  if (choices) return [byRule, ...fallbackFacts(byRule)];
  const alike = [facts, { ...facts, ...plain }, { ...facts, f16: false }, { ...facts, ...plain, f16: false }];
  return [...alike.slice(1), ...alike.map((f) => ({ ...f, software: !f.software }))];
}

/** The kernels that a record takes as it stands: nothing fused, compiled or allocated. Throws what its ops throw. */
export function kernelsOf(record: ProgramRecorder, facts: GpuFacts): KernelVariant[] {
  return record.nodes.flatMap((node) => lower(node, facts).map(({ dispatch }) => dispatch.kernel));
}

function lower(node: OpNode, facts: GpuFacts): Lowered[] {
  const lowered: Lowered[] = [];
  const context: LowerContext = {
    facts,
    temp: (name: string, shape: Shape, dtype: DType): Value => ({
      id: -1,
      kind: "intermediate",
      shape,
      dtype,
      name: `${node.label}.${name}`,
    }),
    parts: (value) => value.tensor?.parts ?? [{ rowStart: 0, rows: value.shape[0] ?? 1, dtype: value.dtype }],
    dispatch: (dispatch) => lowered.push({ node, dispatch }),
  };
  node.op.lower(node, context);
  return lowered;
}

function boundValue(bound: Bound): { value: Value; part: number | undefined } {
  return "part" in bound ? { value: bound.value, part: bound.part } : { value: bound, part: undefined };
}

function findTouches(dispatch: Dispatch, pipeline: Pipeline, node: OpNode): Touches {
  const reads: Value[] = [];
  const writes: Value[] = [];
  for (const b of pipeline.bindings) {
    if (b.access === "uniform") continue;
    const bound = dispatch.bindings[b.name];
    invariant(bound, `${pipeline.label}: ${node.label} binds nothing to "${b.name}"`);
    const value = rootOf(boundValue(bound).value);
    if (b.access === "read_write") {
      invariant(
        value.kind === "state" || value.kind === "intermediate",
        `${node.label}: writes the ${value.kind} ${value.name}`,
      );
    }
    if (value.kind !== "intermediate") continue;
    (b.access === "read_write" ? writes : reads).push(value);
  }
  for (const name of Object.keys(dispatch.bindings)) {
    invariant(
      pipeline.bindings.some((b) => b.name === name),
      `${pipeline.label}: ${node.label} binds "${name}", which the kernel lacks`,
    );
  }
  return { reads, writes };
}

/** The buffers that a plan owns: slabs, inputs, and one uniform buffer for all `Params`. */
export class PlanBuffers {
  readonly slabs: readonly GPUBuffer[];
  readonly inputs = new Map<Value, GPUBuffer>();
  uniforms: GPUBuffer | undefined;
  readonly #device: Device;
  readonly #all: GPUBuffer[] = [];

  constructor(device: Device, record: ProgramRecorder, layout: MemoryLayout) {
    this.#device = device;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    try {
      this.slabs = layout.slabBytes.map((bytes, i) => this.create(`${record.label}.slab${i}`, bytes, usage));
      for (const [name, value] of record.inputs) {
        const bytes = numel(value.shape) * bytesPerElement(value.dtype);
        this.inputs.set(value, this.create(`${record.label}.${name}`, bytes, usage));
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  create(label: string, bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const buffer = this.#device.createBuffer(label, bytes, usage);
    this.#all.push(buffer);
    return buffer;
  }

  dispose(): void {
    for (const b of this.#all) this.#device.destroyBuffer(b);
  }
}

function buildPlan(
  device: Device,
  record: ProgramRecorder,
  lowered: readonly Lowered[],
  pipelines: readonly Pipeline[],
  layout: MemoryLayout,
  buffers: PlanBuffers,
): Plan {
  const uniforms = packUniforms(device, lowered, pipelines);
  buffers.uniforms = buffers.create(
    `${record.label}.params`,
    uniforms.bytes.byteLength,
    GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  );
  device.raw.queue.writeBuffer(buffers.uniforms, 0, uniforms.bytes);
  const range = (bound: Bound): GPUBufferBinding => resolve(bound, layout.slots, buffers);
  const dispatches = lowered.map(({ dispatch, node }, i): PlannedDispatch => {
    const pipeline = pipelines[i] as Pipeline;
    const entries = pipeline.bindings.map((b): GPUBindGroupEntry => {
      if (b.access !== "uniform") return { binding: b.binding, resource: range(dispatch.bindings[b.name] as Bound) };
      const at = uniforms.ranges[i];
      invariant(at, `${pipeline.label}: no uniform range`);
      return { binding: b.binding, resource: { buffer: buffers.uniforms as GPUBuffer, ...at } };
    });
    return {
      label: node.label,
      pipeline: pipeline.compute,
      kernel: pipeline.label,
      group: device.raw.createBindGroup({ label: node.label, layout: pipeline.layout, entries }),
      workgroups: checkedWorkgroups(dispatch.workgroups, node.label),
    };
  });
  return new Plan(device, record, dispatches, layout, buffers);
}

function checkedWorkgroups(workgroups: Dispatch["workgroups"], label: string): Dispatch["workgroups"] {
  if (typeof workgroups === "function") return workgroups;
  for (const n of workgroups) {
    invariant(
      n === undefined || (Number.isInteger(n) && n >= 0 && n <= 65535),
      `${label}: ${formatGroups(workgroups)} workgroups`,
    );
  }
  return workgroups;
}

function formatGroups(w: Workgroups): string {
  return w.join(" × ");
}

function packUniforms(device: Device, lowered: readonly Lowered[], pipelines: readonly Pipeline[]) {
  const align = device.raw.limits.minUniformBufferOffsetAlignment;
  const ranges: ({ offset: number; size: number } | undefined)[] = [];
  const chunks: { offset: number; bytes: ArrayBuffer }[] = [];
  let end = 0;
  lowered.forEach(({ dispatch, node }, i) => {
    const fields = pipelines[i]?.params ?? [];
    if (fields.length === 0) {
      ranges.push(undefined);
      return;
    }
    const bytes = packParams(fields, dispatch.params ?? {}, node.label);
    const offset = alignUp(end, align);
    chunks.push({ offset, bytes });
    ranges.push({ offset, size: bytes.byteLength });
    end = offset + bytes.byteLength;
  });
  const bytes = new Uint8Array(Math.max(16, alignUp(end, 4)));
  for (const c of chunks) bytes.set(new Uint8Array(c.bytes), c.offset);
  return { bytes, ranges };
}

function resolve(bound: Bound, slots: ReadonlyMap<Value, Slot>, buffers: PlanBuffers): GPUBufferBinding {
  const { value: given, part } = boundValue(bound);
  const value = rootOf(given);
  if (value.tensor) {
    const parts = value.tensor.parts;
    const p = parts[part ?? 0];
    invariant(
      p && (part !== undefined || parts.length === 1),
      `${value.name}: has ${parts.length} row parts, bound as one`,
    );
    return { buffer: p.buffer, offset: p.offsetBytes, size: p.sizeBytes };
  }
  const input = buffers.inputs.get(value);
  if (input) return { buffer: input };
  const slot = slots.get(value);
  if (!slot) throw new HeedError("INTERNAL", `${value.name}: has no memory`);
  const buffer = buffers.slabs[slot.slab];
  invariant(buffer, `${value.name}: no slab ${slot.slab}`);
  return {
    buffer,
    offset: slot.offsetBytes,
    size: alignUp(Math.max(4, numel(value.shape) * bytesPerElement(value.dtype)), 4),
  };
}
