import type { Device } from "../../src/gpu/device.ts";
import { kvAppend, PAGE_TOKENS } from "../../src/ops/kv_append.ts";
import { ropeAppend } from "../../src/ops/rope_append.ts";
import { rope, ropeTable } from "../../src/ops/rope.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { fromFloat16Bits, roundToFloat16 } from "../support/float16.ts";
import { assertShapeError, f16, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

const INACTIVE = 0xffffffff;
const EXACT = { atol: 0, rtol: 0 };

interface Spec {
  Hkv: number;
  D: number;
  half: boolean;
}

// Slot 0 has pages 2 and 0, slot 1 has page 3 alone; page 1 belongs to nobody.
const PAGES = 4;
const MAX_PAGES = 2;
const PAGE_TABLE = [2, 0, 3, INACTIVE];
/** (slot, position): a page's first and last token, the next page, an inactive row, and two positions without a page. */
const ROWS: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 31],
  [0, 32],
  [1, 5],
  [INACTIVE, 3],
  [1, 40],
  [1, 64],
  [9, 0],
];
const FILLER = 7;

/** The pool after appending rows of k and v, by the definition. */
function expectedPool({ Hkv, D, half }: Spec, k: ArrayLike<number>, v: ArrayLike<number>): Float64Array {
  const pool = new Float64Array(PAGES * 2 * Hkv * PAGE_TOKENS * D).fill(FILLER);
  const round = (x: Float64Array) => (half ? roundToFloat16(x) : x);
  const rows = [round(Float64Array.from(k)), round(Float64Array.from(v))];
  for (const [n, [slot, position]] of ROWS.entries()) {
    const page =
      slot < 2 && position < MAX_PAGES * PAGE_TOKENS
        ? PAGE_TABLE[slot * MAX_PAGES + Math.floor(position / PAGE_TOKENS)]!
        : INACTIVE;
    if (page === INACTIVE) continue;
    for (let which = 0; which < 2; which++) {
      for (let h = 0; h < Hkv; h++) {
        for (let c = 0; c < D; c++) {
          const token = ((page * 2 + which) * Hkv + h) * PAGE_TOKENS + (position % PAGE_TOKENS);
          pool[token * D + c] = rows[which]![(n * Hkv + h) * D + c]!;
        }
      }
    }
  }
  return pool;
}

function poolTensor({ Hkv, D, half }: Spec) {
  const shape = [PAGES, 2, Hkv, PAGE_TOKENS, D];
  const filler = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(FILLER);
  return half ? f16(shape, filler, "state") : f32(shape, filler, "state");
}

function poolValues(data: ArrayLike<number>, { half }: Spec): ArrayLike<number> {
  return half ? fromFloat16Bits(Uint16Array.from(data)) : data;
}

async function check(device: Device, spec: Spec): Promise<void> {
  const { Hkv, D } = spec;
  const N = ROWS.length;
  const random = createRandom(Hkv + D);
  const [k, v] = [random.normals(N * Hkv * D, 3), random.normals(N * Hkv * D, 3)];
  const inputs = {
    k: f32([N, Hkv * D], k),
    v: f32([N, Hkv * D], v),
    kv: poolTensor(spec),
    rowTable: u32([N, 2], ROWS.flat()),
    pageTable: u32([2, MAX_PAGES], PAGE_TABLE),
  };
  const { pool } = await runOps(device, inputs, (rec, values) => {
    kvAppend(rec, values, { kvHeads: Hkv, headDim: D });
    return { pool: values.kv };
  });
  assertClose(poolValues(pool!, spec), expectedPool(spec, k, v), {
    ...EXACT,
    label: JSON.stringify(spec),
    shape: inputs.kv.shape,
  });
}

interface RopeSpec extends Spec {
  H: number;
  R: number;
  interleaved: boolean;
}

/** q, k and v as ranges of one row, as a fused projection leaves them; the fused op against the three that it replaces. */
async function checkFused(device: Device, spec: RopeSpec): Promise<void> {
  const { H, Hkv, D, R, interleaved } = spec;
  const N = ROWS.length;
  const columns = (H + 2 * Hkv) * D;
  const angles = ropeTable({
    maxPositions: 70,
    inverseFrequencies: Array.from({ length: R / 2 }, (_, i) => 1 / (i + 1)),
  });
  const inputs = {
    qkv: f32([N, columns], createRandom(D).normals(N * columns)),
    kv: poolTensor(spec),
    unfused: poolTensor(spec),
    rowTable: u32([N, 2], ROWS.flat()),
    pageTable: u32([2, MAX_PAGES], PAGE_TABLE),
    table: f32([70, R / 2, 2], angles),
  };
  const got = await runOps(
    device,
    inputs,
    (rec, { qkv, kv, unfused, rowTable, pageTable, table }) => {
      const q = sliceColumns(rec, qkv, 0, H * D);
      const k = sliceColumns(rec, qkv, H * D, Hkv * D);
      const v = sliceColumns(rec, qkv, (H + Hkv) * D, Hkv * D);
      const attrs = { headDim: D, rotaryDim: R, interleaved };
      const fused = ropeAppend(rec, { q, k, v, kv, rowTable, pageTable, table }, { ...attrs, heads: H, kvHeads: Hkv });
      const turnedK = rope(rec, k, rowTable, { ...attrs, heads: Hkv, table });
      kvAppend(rec, { k: turnedK, v, kv: unfused, rowTable, pageTable }, { kvHeads: Hkv, headDim: D });
      return { fused, q: rope(rec, q, rowTable, { ...attrs, heads: H, table }), kv, unfused };
    },
    { fuse: false },
  );
  // One rounding apart: compilers may contract a · cos − b · sin into a fused multiply-add in one kernel alone.
  const close = { atol: 1e-6, rtol: 1e-6 };
  assertClose(got["fused"]!, got["q"]!, { ...close, label: `q ${JSON.stringify(spec)}`, shape: [N, H, D] });
  const pool = { ...(spec.half ? { atol: 1e-6, rtol: 2 ** -10 } : close), shape: inputs.kv.shape };
  assertClose(poolValues(got["kv"]!, spec), poolValues(got["unfused"]!, spec), {
    ...pool,
    label: `pool ${JSON.stringify(spec)}`,
  });
}

export const cases = opCases("kv_append", (add) => {
  for (const half of [false, true]) {
    const dtype = half ? "f16" : "f32";
    add(`writes rows into their pages and nothing else (${dtype})`, async (device) => {
      await check(device, { Hkv: 2, D: 8, half });
      await check(device, { Hkv: 1, D: 2, half });
      await check(device, { Hkv: 3, D: 66, half });
    });
    add(`fused with both rotations it does the same as the three ops (${dtype})`, async (device) => {
      await checkFused(device, { H: 4, Hkv: 2, D: 8, R: 8, interleaved: false, half });
      await checkFused(device, { H: 3, Hkv: 1, D: 12, R: 6, interleaved: false, half });
      await checkFused(device, { H: 2, Hkv: 2, D: 10, R: 6, interleaved: true, half });
    });
  }
  add("refuses a pool of other heads", (device) =>
    assertShapeError(
      () =>
        runOps(
          device,
          {
            k: f32([1, 8], new Float32Array(8)),
            kv: f32([1, 2, 1, 32, 8], new Float32Array(512), "state"),
            rowTable: u32([1, 2], [0, 0]),
            pageTable: u32([1, 1], [0]),
          },
          (rec, v) => {
            kvAppend(rec, { ...v, v: v.k }, { kvHeads: 2, headDim: 4 });
            return { kv: v.kv };
          },
        ),
      "kv_append: kv must be [pages, 2, 2, 32, 4] f32 or f16; got kv [1, 2, 1, 32, 8] f32.",
    ),
  );
});
