import { bytesPerElement } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import { alignUp, numel } from "../core/shape.ts";
import type { Value } from "../ops/op.ts";

/** The intermediates that one dispatch touches. */
export interface Touches {
  readonly reads: readonly Value[];
  readonly writes: readonly Value[];
}

/** Where an intermediate lives. */
export interface Slot {
  readonly slab: number;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface MemoryLayout {
  readonly slots: ReadonlyMap<Value, Slot>;
  readonly slabBytes: readonly number[];
  /** Sum of all intermediates, as if each had memory of its own. */
  readonly bytesWithoutReuse: number;
}

interface Lifetime {
  readonly value: Value;
  readonly sizeBytes: number;
  first: number;
  last: number;
  /** Values that some dispatch binds the other way round (read against written): they need another slab. */
  readonly rivals: Set<Value>;
}

/**
 * Lays intermediates out in slabs. Two rules: values whose lifetimes overlap do not share bytes, and no dispatch
 * reads a slab that it writes, because WebGPU forbids a buffer to be bound writable and read-only in one dispatch,
 * whatever the ranges. First fit in order of first use; `kept` values live to the end.
 */
export function layOut(dispatches: readonly Touches[], kept: ReadonlySet<Value>, maxSlabBytes: number): MemoryLayout {
  const lifetimes = findLifetimes(dispatches, kept);
  const slots = new Map<Value, Slot>();
  const slabs: { bytes: number; tenants: Lifetime[] }[] = [];
  let bytesWithoutReuse = 0;
  for (const life of lifetimes) {
    bytesWithoutReuse += life.sizeBytes;
    const barred = new Set([...life.rivals].map((v) => slots.get(v)?.slab));
    let placed = false;
    for (let slab = 0; slab <= slabs.length && !placed; slab++) {
      if (barred.has(slab)) continue;
      const home = slabs[slab] ?? { bytes: 0, tenants: [] };
      slabs[slab] = home;
      const offsetBytes = firstFit(home.tenants, slots, life);
      if (offsetBytes + life.sizeBytes > maxSlabBytes && home.tenants.length > 0) continue;
      slots.set(life.value, { slab, offsetBytes, sizeBytes: life.sizeBytes });
      home.tenants.push(life);
      home.bytes = Math.max(home.bytes, offsetBytes + life.sizeBytes);
      placed = true;
    }
    invariant(placed, `memory: no slab for ${life.value.name}`);
  }
  return { slots, slabBytes: slabs.map((s) => s.bytes), bytesWithoutReuse };
}

function findLifetimes(dispatches: readonly Touches[], kept: ReadonlySet<Value>): Lifetime[] {
  const lives = new Map<Value, Lifetime>();
  dispatches.forEach(({ reads, writes }, at) => {
    for (const value of writes) {
      const life = lives.get(value);
      if (life) life.last = at;
      else {
        // Bindings start at multiples of 256 bytes.
        const sizeBytes = alignUp(Math.max(4, numel(value.shape) * bytesPerElement(value.dtype)), 256);
        lives.set(value, { value, sizeBytes, first: at, last: at, rivals: new Set() });
      }
    }
    for (const value of reads) {
      const life = lives.get(value);
      invariant(life, `memory: ${value.name} is read before it is written`);
      life.last = at;
      for (const w of writes) {
        invariant(w !== value, `memory: ${value.name} is bound for reading and writing in one dispatch`);
        life.rivals.add(w);
        lives.get(w)?.rivals.add(value);
      }
    }
  });
  for (const value of kept) {
    const life = lives.get(value);
    if (life) life.last = dispatches.length;
  }
  return [...lives.values()].sort((a, b) => a.first - b.first || b.sizeBytes - a.sizeBytes);
}

/** Lowest offset at which `life` meets no tenant that is alive at the same time. */
function firstFit(tenants: readonly Lifetime[], slots: ReadonlyMap<Value, Slot>, life: Lifetime): number {
  const busy = tenants
    .filter((t) => t.first <= life.last && life.first <= t.last)
    .map((t) => slots.get(t.value) as Slot)
    .sort((a, b) => a.offsetBytes - b.offsetBytes);
  let offset = 0;
  for (const slot of busy) {
    if (offset + life.sizeBytes <= slot.offsetBytes) break;
    offset = Math.max(offset, slot.offsetBytes + slot.sizeBytes);
  }
  return offset;
}
