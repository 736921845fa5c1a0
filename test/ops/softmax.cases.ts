import { softmax } from "../../src/ops/softmax.ts";
import { gradientsFrom } from "../../src/program/autodiff.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { maskedSoftmax } from "../../src/reference/masked_softmax.ts";
import { assertShapeError, f32, GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { tolerance } from "../support/tolerances.ts";

interface Sizes {
  outer: number;
  columns: number;
  inner: number;
  logarithm: boolean;
  scale?: number;
}

/** The reference takes rows that lie together, so they are gathered from and scattered to places `inner` apart. */
function spec(sizes: Sizes): OpSpec {
  const { outer, columns, inner, logarithm, scale = 1 } = sizes;
  const x = createRandom(outer + columns + inner).normals(outer * columns * inner, scale);
  const place = (row: number, c: number) => (Math.floor(row / inner) * columns + c) * inner + (row % inner);
  const rows = new Float64Array(x.length);
  for (let i = 0; i < rows.length; i++) rows[i] = x[place(Math.floor(i / columns), i % columns)] as number;
  const { probs, lse } = maskedSoftmax(rows, { B: 1, H: 1, T: outer * inner, S: columns });
  const values = new Float64Array(x.length);
  for (let i = 0; i < rows.length; i++) {
    const row = Math.floor(i / columns);
    values[place(row, i % columns)] = logarithm ? (rows[i] as number) - (lse[row] as number) : (probs[i] as number);
  }
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([outer, columns, inner], x) },
    record: (rec, { x }) => ({ out: softmax(rec, x!, { axis: 1, logarithm }) }),
    expected: { out: { values, close: { ...tolerance("f32"), shape: [outer, columns, inner] } } },
  };
}

/** The gradient of Σ out · dout, from the softmax in float64: dx_c = p_c (dout_c − Σ p dout), or dout_c − p_c Σ dout. */
function gradientSpec({ outer, columns, inner, logarithm }: Sizes): OpSpec {
  const random = createRandom(outer + columns + inner);
  const shape = [outer, columns, inner];
  const [x, dout] = [random.normals(outer * columns * inner), random.normals(outer * columns * inner)];
  const dx = new Float64Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = Array.from({ length: columns }, (_, c) => (o * columns + c) * inner + i);
      const total = at.reduce((sum, j) => sum + Math.exp(x[j]!), 0);
      const probs = at.map((j) => Math.exp(x[j]!) / total);
      const dot = at.reduce((sum, j, c) => sum + (logarithm ? 1 : probs[c]!) * dout[j]!, 0);
      at.forEach((j, c) => {
        dx[j] = logarithm ? dout[j]! - probs[c]! * dot : probs[c]! * (dout[j]! - dot);
      });
    }
  }
  return {
    label: `gradient ${JSON.stringify({ outer, columns, inner, logarithm })}`,
    inputs: { x: f32(shape, x), dout: f32(shape, dout) },
    record(rec, { x, dout }) {
      const [dx] = gradientsFrom(rec, new Map([[softmax(rec, x!, { axis: 1, logarithm }), dout!]]), [x!]);
      return { dx: dx! };
    },
    expected: { dx: { values: dx, close: { ...tolerance("f32"), shape } } },
  };
}

export const cases = opCases("softmax", (add) => {
  add("matches the reference (control)", (device) =>
    checkSpecs(device, [
      spec({ outer: 3, columns: 16, inner: 1, logarithm: false }),
      spec({ outer: 3, columns: 16, inner: 1, logarithm: true }),
    ]),
  );
  add("matches over other axes, at C=1, and at values of ±1e4", (device) =>
    checkSpecs(device, [
      spec({ outer: 2, columns: 7, inner: 5, logarithm: false }),
      spec({ outer: 9, columns: 1, inner: 1, logarithm: true }),
      spec({ outer: 2, columns: 33, inner: 3, logarithm: true, scale: 1e4 }),
      spec({ outer: 2, columns: 33, inner: 3, logarithm: false, scale: 1e4 }),
    ]),
  );
  add("gives the gradient, over any axis", (device) =>
    checkSpecs(
      device,
      [true, false].flatMap((logarithm) => [
        gradientSpec({ outer: 3, columns: 16, inner: 1, logarithm }),
        gradientSpec({ outer: 2, columns: 7, inner: 5, logarithm }),
        gradientSpec({ outer: 4, columns: 1, inner: 1, logarithm }),
      ]),
    ),
  );
  add("matches in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(83, 50, (random) =>
        spec({
          outer: random.int(1, 20),
          columns: random.int(1, 100),
          inner: random.pick([1, 1, 2, 5, 8] as const),
          logarithm: random.pick([true, false] as const),
          scale: 10 ** random.int(-2, 3),
        }),
      ),
    ),
  );
  add(
    "matches with a workgroup a row, as GPUs run it",
    (device) =>
      withGpuVariants(device, () =>
        checkSpecs(device, [
          spec({ outer: 3, columns: 700, inner: 1, logarithm: false }),
          spec({ outer: 2, columns: 20, inner: 6, logarithm: true }),
          gradientSpec({ outer: 3, columns: 700, inner: 1, logarithm: false }),
          gradientSpec({ outer: 2, columns: 20, inner: 6, logarithm: true }),
        ]),
      ),
    GPU_VARIANT_TIERS,
  );
  add("refuses an axis that is not there", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([2, 3], new Float32Array(6)) }, (rec, v) => ({ out: softmax(rec, v.x, { axis: -3 }) })),
      "softmax: x must be f32 and axis one of its axes; got x [2, 3] f32, axis -3.",
    ),
  );
});
