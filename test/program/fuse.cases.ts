import type { Device } from "../../src/gpu/device.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { activation } from "../../src/ops/activation.ts";
import { add } from "../../src/ops/add.ts";
import { gatedActivation } from "../../src/ops/gated_activation.ts";
import { kvAppend } from "../../src/ops/kv_append.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { linear } from "../../src/ops/linear.ts";
import type { Value } from "../../src/ops/op.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { rope } from "../../src/ops/rope.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { assertClose } from "../support/close.ts";
import { withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

type Make = (name: string, shape: number[]) => Value;
/** Records a pattern and returns what it computes; `states` are compared too. */
type Pattern = (
  rec: ProgramRecorder,
  make: Make,
  u32: (name: string, shape: number[], data: number[]) => Value,
) => Record<string, Value>;

interface Result {
  readonly dispatches: number;
  readonly outputs: Record<string, Float32Array>;
}

async function runPattern(
  device: Device,
  pattern: Pattern,
  fuse: boolean,
  keep: readonly string[] = [],
): Promise<Result> {
  const random = createRandom(6);
  const tensors: Tensor[] = [];
  const rec = new ProgramRecorder("pattern");
  const tensorOf = (name: string, shape: number[], dtype: "f32" | "u32", data: Float32Array | Uint32Array) => {
    const tensor = Tensor.from(device, name, shape, dtype, data);
    tensors.push(tensor);
    return tensor;
  };
  const draw = (shape: number[]) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal());
  const make: Make = (name, shape) => {
    const tensor = tensorOf(name, shape, "f32", draw(shape));
    return name.startsWith("state") ? rec.state(tensor) : rec.weight(tensor);
  };
  const outputs = pattern(rec, make, (name, shape, data) =>
    rec.weight(tensorOf(name, shape, "u32", Uint32Array.from(data))),
  );
  for (const [name, value] of Object.entries(outputs)) rec.output(name, value);
  for (const name of keep) rec.output(name, rec.find(name));
  const planned = await plan(device, rec, { fuse });
  try {
    await planned.run();
    const read: Record<string, Float32Array> = {};
    for (const name of [...Object.keys(outputs), ...keep])
      read[name] = new Float32Array(await planned.readOutput(name));
    return { dispatches: planned.dispatches.length, outputs: read };
  } finally {
    planned.dispose();
    for (const t of tensors) t.dispose();
  }
}

/** Fused and unfused agree, and fusing saves exactly `saved` dispatches. */
async function expectFusion(device: Device, pattern: Pattern, saved: number): Promise<void> {
  const plain = await runPattern(device, pattern, false);
  const fused = await runPattern(device, pattern, true);
  for (const [name, expected] of Object.entries(plain.outputs)) {
    assertClose(fused.outputs[name] as Float32Array, expected, { ...tolerance("f32"), label: name });
  }
  if (plain.dispatches - fused.dispatches !== saved) {
    throw new Error(`expected to save ${saved} dispatches; ${plain.dispatches} became ${fused.dispatches}`);
  }
}

const WIDTH = 64;

const ropePattern: Pattern = (rec, make, u32) => {
  const qkv = linear(rec, make("x", [3, WIDTH]), make("w", [4 * 16, WIDTH]));
  const rowTable = u32("row_table", [3, 2], [0, 5, 1, 33, 0xffffffff, 0]);
  const pageTable = u32("page_table", [2, 2], [0, 1, 2, 3]);
  const kv = make("state kv", [4, 2, 1, 32, 16]);
  const table = make("rope table", [64, 8, 2]);
  const turn = (start: number, heads: number) =>
    rope(rec, sliceColumns(rec, qkv, start, heads * 16), rowTable, {
      table,
      heads,
      headDim: 16,
      rotaryDim: 16,
      interleaved: false,
    });
  const q = turn(0, 2);
  const k = turn(32, 1);
  kvAppend(rec, { k, v: sliceColumns(rec, qkv, 48, 16), kv, rowTable, pageTable }, { kvHeads: 1, headDim: 16 });
  return { mixed: add(rec, q, make("r", [3, 32])), kv };
};

export const cases = opCases("fuse", (test) => {
  test("linear + activation", (device) =>
    expectFusion(
      device,
      (rec, make) => ({
        out: activation(
          rec,
          linear(rec, make("x", [12, WIDTH]), make("w", [40, WIDTH]), { bias: make("b", [40]) }),
          "gelu",
        ),
      }),
      1,
    ));
  test("linear + residual, on either side", async (device) => {
    const sided =
      (flip: boolean): Pattern =>
      (rec, make) => {
        const made = linear(rec, make("x", [12, WIDTH]), make("w", [40, WIDTH]));
        const residual = make("r", [12, 40]);
        return { out: flip ? add(rec, made, residual) : add(rec, residual, made) };
      };
    await expectFusion(device, sided(false), 1);
    await expectFusion(device, sided(true), 1);
  });
  test("linear + gated activation of one row", (device) =>
    expectFusion(
      device,
      (rec, make) => ({
        out: gatedActivation(rec, linear(rec, make("x", [1, WIDTH]), make("w", [80, WIDTH])), "silu"),
      }),
      1,
    ));
  test("norm + linear of one row, as GPUs get it", (device) =>
    withGpuVariants(device, async () => {
      await expectFusion(
        device,
        (rec, make) => ({
          out: linear(
            rec,
            rmsNorm(rec, make("x", [1, WIDTH]), make("g", [WIDTH]), { eps: 1e-5 }),
            make("w", [40, WIDTH]),
          ),
        }),
        1,
      );
      await expectFusion(
        device,
        (rec, make) => ({
          out: linear(
            rec,
            layerNorm(rec, make("x", [1, WIDTH]), make("g", [WIDTH]), make("b", [WIDTH]), { eps: 1e-5 }),
            make("w", [40, WIDTH]),
          ),
        }),
        1,
      );
    }));
  test("rope + rope + kv append", (device) => expectFusion(device, ropePattern, 2));
  test("leaves alone what is captured, or used twice", async (device) => {
    const pattern: Pattern = (rec, make) => {
      const h = rec.name(linear(rec, make("x", [12, WIDTH]), make("w", [40, WIDTH])), "h");
      return { out: activation(rec, h, "relu") };
    };
    const plain = await runPattern(device, pattern, false, ["h"]);
    const fused = await runPattern(device, pattern, true, ["h"]);
    if (fused.dispatches !== plain.dispatches) throw new Error("a captured value was fused away");
    assertClose(fused.outputs.h as Float32Array, plain.outputs.h as Float32Array, { ...tolerance("f32"), label: "h" });
    await expectFusion(
      device,
      (rec, make) => {
        const h2 = linear(rec, make("x", [12, WIDTH]), make("w", [40, WIDTH]));
        return { a: activation(rec, h2, "relu"), b: activation(rec, h2, "tanh") };
      },
      0,
    );
  });
});
