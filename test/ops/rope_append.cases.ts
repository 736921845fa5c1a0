import { rope as turn } from "../../src/reference/rope.ts";
import { ropeAppend } from "../../src/ops/rope_append.ts";
import { ropeTable } from "../../src/ops/rope.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertShapeError, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { tolerance } from "../support/tolerances.ts";
import { expectedPool, type PoolSizes, poolTensor, ROWS, readPool, tables } from "./kv_append_support.ts";

interface Sizes extends PoolSizes {
  H: number;
  R: number;
  interleaved: boolean;
}

/** q, k and v as ranges of one row, as a fused projection leaves them, against the references of rope and the append. */
function turnAndAppend(sizes: Sizes): OpSpec {
  const { H, Hkv, D, R, interleaved, half } = sizes;
  const N = ROWS.length;
  const columns = (H + 2 * Hkv) * D;
  const qkv = createRandom(columns).normals(N * columns);
  const part = (first: number, heads: number) =>
    qkv.filter((_, i) => i % columns >= first * D && i % columns < (first + heads) * D);
  const inverseFrequencies = Array.from({ length: R / 2 }, (_, i) => 1 / (i + 1));
  const form = interleaved ? ("interleaved" as const) : ("half" as const);
  const options = { N, D, form, positions: ROWS.map(([, position]) => position), inverseFrequencies };
  const kv = poolTensor(sizes);
  const turnedQ = turn(part(0, H), { ...options, H });
  const inactive = ROWS.findIndex(([slot]) => slot === 0xffffffff);
  turnedQ.fill(0, inactive * H * D, (inactive + 1) * H * D);
  const turnedK = turn(part(H, Hkv), { ...options, H: Hkv });
  const close = half ? tolerance("f16") : tolerance("f32");
  return {
    label: JSON.stringify(sizes),
    inputs: {
      qkv: f32([N, columns], qkv),
      kv,
      ...tables(),
      table: f32([70, R / 2, 2], ropeTable({ maxPositions: 70, inverseFrequencies })),
    },
    record(rec, { qkv, kv, rowTable, pageTable, table }) {
      const [q, k, v] = [
        sliceColumns(rec, qkv!, 0, H * D),
        sliceColumns(rec, qkv!, H * D, Hkv * D),
        sliceColumns(rec, qkv!, (H + Hkv) * D, Hkv * D),
      ];
      const state = { kv: kv!, rowTable: rowTable!, pageTable: pageTable!, table: table! };
      const attrs = { heads: H, kvHeads: Hkv, headDim: D, rotaryDim: R, interleaved };
      return { q: ropeAppend(rec, { q, k, v, ...state }, attrs), pool: kv! };
    },
    expected: {
      q: { values: turnedQ, close: { ...tolerance("f32"), shape: [N, H, D] } },
      pool: {
        values: expectedPool(sizes, turnedK, part(H + Hkv, Hkv)),
        close: { ...close, shape: kv.shape },
        read: readPool(sizes),
      },
    },
  };
}

export const cases = opCases("rope_append", (add) => {
  for (const half of [false, true]) {
    add(`turns q and k and appends k and v (${half ? "f16" : "f32"})`, (device) =>
      checkSpecs(device, [
        turnAndAppend({ H: 4, Hkv: 2, D: 8, R: 8, interleaved: false, half }),
        turnAndAppend({ H: 3, Hkv: 1, D: 12, R: 6, interleaved: false, half }),
        turnAndAppend({ H: 2, Hkv: 2, D: 10, R: 6, interleaved: true, half }),
      ]),
    );
  }
  add("does so in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(101, 50, (random) => {
        const Hkv = random.int(1, 3);
        const D = 2 * random.int(1, 16);
        const [interleaved, half] = [random.pick([true, false]), random.pick([true, false])];
        return turnAndAppend({ H: Hkv * random.int(1, 3), Hkv, D, R: 2 * random.int(1, D / 2), interleaved, half });
      }),
    ),
  );
  add("refuses q of other heads", (device) =>
    assertShapeError(
      () =>
        runOps(
          device,
          {
            q: f32([1, 8], new Float32Array(8)),
            kv: f32([1, 2, 1, 32, 8], new Float32Array(512), "state"),
            rowTable: u32([1, 2], [0, 0]),
            pageTable: u32([1, 1], [0]),
            table: f32([1, 4, 2], new Float32Array(8)),
          },
          (rec, v) => {
            const attrs = { heads: 3, kvHeads: 1, headDim: 8, rotaryDim: 8, interleaved: false };
            return { q: ropeAppend(rec, { ...v, k: v.q, v: v.q }, attrs) };
          },
        ),
      "rope_append: q must be [N, heads · headDim]; got q [1, 8] f32, heads 3, headDim 8, rotaryDim 8.",
    ),
  );
});
