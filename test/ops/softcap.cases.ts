import { softcap } from "../../src/ops/softcap.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { isHeedError } from "../../src/core/errors.ts";
import { assertClose } from "../support/close.ts";
import { f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

export const cases = opCases("softcap", (add) => {
  for (const [rows, columns, size] of [
    [3, 65, 20],
    [1, 1, 1],
    [2, 130, 1e4],
  ] as const) {
    add(`matches cap · tanh(x / cap) at [${rows}, ${columns}], values of about ${size}`, async (device) => {
      const x = createRandom(rows * 100 + columns).normals(rows * columns, size);
      const inputs = { x: f32([rows, columns], x) };
      const { out } = await runOps(device, inputs, (rec, v) => ({ out: softcap(rec, v.x, 30) }));
      const expected = Float64Array.from(Float32Array.from(x), (value) => 30 * Math.tanh(value / 30));
      assertClose(out as Float32Array, expected, { ...tolerance("f32", "attention"), label: "softcap" });
    });
  }
  add("refuses a cap that is not positive", async (device) => {
    const inputs = { x: f32([1, 1], [1]) };
    const run = () => runOps(device, inputs, (rec, v) => ({ out: softcap(rec, v.x, 0) }));
    const error: unknown = await run().catch((thrown: unknown) => thrown);
    if (isHeedError(error) && error.message.includes("the cap must be positive; got 0")) return;
    throw new Error(`expected a refusal, got ${String(error)}`);
  });
});
