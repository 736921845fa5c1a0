import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Value } from "../../src/ops/op.ts";
import { layOut, type Touches } from "../../src/program/memory.ts";

let nextId = 0;
function value(elements: number): Value {
  const id = nextId++;
  return { id, kind: "intermediate", shape: [elements], dtype: "f32", name: `v${id}` };
}

describe("memory", () => {
  it("reuses the bytes of values that are dead", () => {
    const [a, b, c, d] = [value(64), value(64), value(64), value(64)] as [Value, Value, Value, Value];
    const layout = layOut(
      [
        { reads: [], writes: [a] },
        { reads: [a], writes: [b] },
        { reads: [b], writes: [c] },
        { reads: [c], writes: [d] },
      ],
      new Set(),
      1 << 20,
    );
    expect(layout.slabBytes).toEqual([256, 256]);
    expect(layout.bytesWithoutReuse).toBe(1024);
  });

  it("starts another slab where one would exceed the limit", () => {
    const values = [value(128), value(128), value(128)];
    const layout = layOut([{ reads: [], writes: values }], new Set(values), 1024);
    expect(layout.slabBytes).toEqual([1024, 512]);
  });

  it("never shares bytes between living values, nor a slab between read and written ones (drawn programs)", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.array(fc.nat(30), { maxLength: 3 }), fc.integer({ min: 1, max: 400 })), {
          minLength: 1,
          maxLength: 40,
        }),
        (spec) => {
          const values: Value[] = [];
          const dispatches: Touches[] = spec.map(([reads, size]) => {
            const made = value(size);
            const read = reads
              .map((i) => values[i % Math.max(values.length, 1)])
              .filter((v): v is Value => v !== undefined);
            values.push(made);
            return { reads: [...new Set(read)], writes: [made] };
          });
          const kept = new Set(values.slice(-2));
          check(dispatches, kept, layOut(dispatches, kept, 1 << 20).slots);
        },
      ),
      { numRuns: 200 },
    );
  });
});

type Slots = ReturnType<typeof layOut>["slots"];

function check(dispatches: readonly Touches[], kept: ReadonlySet<Value>, slots: Slots): void {
  const life = new Map<Value, [number, number]>();
  dispatches.forEach(({ reads, writes }, at) => {
    for (const v of [...writes, ...reads]) life.set(v, [life.get(v)?.[0] ?? at, at]);
    for (const r of reads) for (const w of writes) expect(slots.get(r)?.slab).not.toBe(slots.get(w)?.slab);
  });
  for (const v of kept) life.set(v, [life.get(v)?.[0] ?? 0, dispatches.length]);
  const all = [...life];
  for (const [a, [a0, a1]] of all) {
    for (const [b, [b0, b1]] of all) {
      const [x, y] = [slots.get(a), slots.get(b)];
      if (a === b || a0 > b1 || b0 > a1 || !x || !y || x.slab !== y.slab) continue;
      expect(x.offsetBytes + x.sizeBytes <= y.offsetBytes || y.offsetBytes + y.sizeBytes <= x.offsetBytes).toBe(true);
    }
  }
}
