import { embedding, positionEmbedding } from "../../src/ops/embedding.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { embeddingBackward, embedding as reference } from "../../src/reference/embedding.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16 } from "../support/float16.ts";
import { assertShapeError, backwardOf, f16, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance } from "../support/tolerances.ts";

const EXACT = { atol: 0, rtol: 0 };
const INACTIVE = 0xffffffff;

interface Sizes {
  N: number;
  V: number;
  C: number;
  half?: boolean;
  maxPartBytes?: number;
}

function forward(sizes: Sizes): OpSpec {
  const { N, V, C, half = false, maxPartBytes } = sizes;
  const random = createRandom(N + V + C);
  const ids = random.ints(N, 0, V - 1);
  const values = random.normals(V * C);
  return {
    label: JSON.stringify(sizes),
    inputs: { ids: u32([N], ids), table: { ...(half ? f16 : f32)([V, C], values), maxPartBytes } },
    record: (rec, { ids, table }) => ({ out: embedding(rec, ids!, table!) }),
    expected: {
      out: {
        values: reference(ids, half ? roundToFloat16(values) : values, { C }),
        close: { ...EXACT, shape: [N, C] },
      },
    },
  };
}

function backward(sizes: Sizes): OpSpec {
  const { N, V, C } = sizes;
  const random = createRandom(N + V + C);
  const [ids, dout] = [random.ints(N, 0, V - 1), random.normals(N * C)];
  const dtable = embeddingBackward(ids, dout, { V, C }).map((g) => 2 * g);
  return {
    label: JSON.stringify(sizes),
    inputs: { ids: u32([N], ids), table: f32([V, C], new Float32Array(V * C)), dout: f32([N, C], dout) },
    record(rec, { ids, table, dout }) {
      embedding(rec, ids!, table!, { scale: 2 });
      return { dtable: backwardOf(rec, [dout!], ["table"])["table"]! };
    },
    expected: { dtable: { values: dtable, close: { ...gradientTolerance(dtable), shape: [V, C] } } },
  };
}

export const cases = opCases("embedding", (add) => {
  add("takes rows of an f32 table (control)", (device) => checkSpecs(device, [forward({ N: 5, V: 11, C: 64 })]));
  add("takes rows at N=1, 7 and C=1, 4, 7, 68, and of an f16 table", (device) => {
    const sizes = [
      [1, 1],
      [7, 4],
      [1, 7],
      [7, 68],
    ] as const;
    return checkSpecs(device, [
      ...sizes.map(([N, C]) => forward({ N, V: 9, C })),
      forward({ N: 9, V: 20, C: 12, half: true }),
    ]);
  });
  add("takes rows of a table in several parts", (device) =>
    checkSpecs(device, [
      forward({ N: 40, V: 50, C: 8, maxPartBytes: 8 * 8 * 4 }),
      forward({ N: 40, V: 50, C: 8, half: true, maxPartBytes: 16 * 8 * 2 }),
    ]),
  );
  add("takes rows in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(61, 50, (random) => {
        const half = random.pick([true, false]);
        const C = half ? 4 * random.int(1, 20) : random.int(1, 80);
        return forward({ N: random.int(1, 40), V: random.int(1, 100), C, half });
      }),
    ),
  );
  add("scales", async (device) => {
    const inputs = { ids: u32([2], [1, 0]), table: f32([2, 4], [1, 2, 3, 4, 5, 6, 7, 8]) };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: embedding(rec, v.ids, v.table, { scale: 3 }) }));
    assertClose(out!, [15, 18, 21, 24, 3, 6, 9, 12], EXACT);
  });
  add("takes the positions of a row table, shifted, and 0 for inactive rows and ids past the table", async (device) => {
    const table = Float32Array.from({ length: 24 }, (_, i) => i + 1);
    const inputs = {
      rows: u32([4, 2], [0, 3, INACTIVE, 1, 7, 0, 2, 4]),
      ids: u32([3], [INACTIVE, 6, 5]),
      table: { ...f32([6, 4], table), maxPartBytes: 32 },
    };
    const got = await runOps(device, inputs, (rec, v) => ({
      positions: positionEmbedding(rec, v.rows, v.table, { shift: 2 }),
      past: embedding(rec, v.ids, v.table),
    }));
    assertClose(got["positions"]!, [21, 22, 23, 24, 0, 0, 0, 0, 9, 10, 11, 12, 0, 0, 0, 0], EXACT);
    assertClose(got["past"]!, [0, 0, 0, 0, 0, 0, 0, 0, 21, 22, 23, 24], EXACT);
  });
  add("gradients match the reference, repeated and absent ids too", (device) => {
    const sizes = [
      { N: 1, V: 3, C: 4 },
      { N: 33, V: 5, C: 7 },
      { N: 20, V: 400, C: 68 },
    ];
    return checkSpecs(device, sizes.map(backward));
  });
  add("refuses wrong ids and tables", async (device) => {
    const table = f32([2, 4], new Float32Array(8));
    await assertShapeError(
      () => runOps(device, { ids: f32([2], [0, 1]), table }, (rec, v) => ({ out: embedding(rec, v.ids, v.table) })),
      "embedding: ids must be [N] u32 or a row table [N, 2] u32; got ids [2] f32.",
    );
    await assertShapeError(
      () =>
        runOps(device, { ids: u32([2], [0, 1]), table: f16([2, 6], new Float32Array(12)) }, (rec, v) => ({
          out: embedding(rec, v.ids, v.table),
        })),
      "embedding: C must be a multiple of 4 where the table is not f32; got table [2, 6] f16. Load the table as f32.",
    );
  });
});
