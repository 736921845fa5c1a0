import { kvAppend } from "../../src/ops/kv_append.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertShapeError, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { expectedPool, type PoolSizes, poolTensor, ROWS, readPool, tables } from "./kv_append_support.ts";

/** k and v as ranges of columns of one row, v first, as a fused projection might leave them. */
function append(sizes: PoolSizes): OpSpec {
  const { Hkv, D } = sizes;
  const [N, C] = [ROWS.length, Hkv * D];
  const both = createRandom(C).normals(N * 2 * C, 3);
  if (sizes.blocks) both.fill(0, C, C + 32);
  const [v, k] = [0, C].map((start) => both.filter((_, i) => i % (2 * C) >= start && i % (2 * C) < start + C));
  const kv = poolTensor(sizes);
  const shape = [...kv.shape.slice(0, 4), D];
  return {
    label: JSON.stringify(sizes),
    inputs: { both: f32([N, 2 * C], both), kv, ...tables() },
    record(rec, { both, kv, rowTable, pageTable }) {
      const rows = { k: sliceColumns(rec, both!, C, C), v: sliceColumns(rec, both!, 0, C) };
      kvAppend(rec, { ...rows, kv: kv!, rowTable: rowTable!, pageTable: pageTable! }, { kvHeads: Hkv, headDim: D });
      return { pool: kv! };
    },
    expected: {
      pool: {
        values: expectedPool(sizes, k!, v!),
        // Half a step of the block's scale, whose f16 is off by 2⁻¹¹; what is drawn stays below 5 · 3.
        close: { ...(sizes.blocks ? { atol: (0.51 * 15) / 127, rtol: 1e-3 } : { atol: 0, rtol: 0 }), shape },
        read: readPool(sizes),
      },
    },
  };
}

export const cases = opCases("kv_append", (add) => {
  for (const half of [false, true]) {
    add(`writes rows into their pages and nothing else (${half ? "f16" : "f32"})`, (device) =>
      checkSpecs(device, [
        append({ Hkv: 2, D: 8, half }),
        append({ Hkv: 1, D: 2, half }),
        append({ Hkv: 3, D: 66, half }),
      ]),
    );
  }
  add("writes blocks of q8_0, a scale of 0 among them", (device) =>
    checkSpecs(device, [
      append({ Hkv: 2, D: 32, half: false, blocks: true }),
      append({ Hkv: 3, D: 96, half: false, blocks: true }),
      append({ Hkv: 2, D: 64, half: false, blocks: true }),
    ]),
  );
  add("does so in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(91, 50, (random) =>
        append({ Hkv: random.int(1, 4), D: 2 * random.int(1, 16), half: random.pick([true, false]) }),
      ),
    ),
  );
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
