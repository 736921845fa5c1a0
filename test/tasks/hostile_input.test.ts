import fc from "fast-check";
import { expect, it } from "vitest";
import { HeedError } from "../../src/core/errors.ts";
import type { Engine } from "../../src/tasks/engine.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { testSeed } from "../support/random.ts";

/** Tensors that fit nothing, or nearly something. */
const tensors = fc.oneof(
  fc
    .record({
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }),
      type: fc.constantFrom(Float32Array, Uint32Array, Int32Array, Uint16Array, Float64Array, Uint8Array),
      more: fc.constantFrom(0, 0, 0, 0, 1, -1),
    })
    .map(({ shape, type, more }) => ({
      shape,
      data: new type(Math.max(0, shape.reduce((a, b) => a * b, 1) + more)),
    })),
  fc.constantFrom<unknown>(
    { shape: null, data: new Float32Array(1) },
    { shape: "4", data: new Float32Array(4) },
    { shape: [2, Number.NaN], data: new Float32Array(2) },
    { shape: [-1, -1], data: new Float32Array(1) },
    { shape: [2.5], data: new Float32Array(2) },
    { shape: [2], data: null },
    { shape: [2], data: [1, 2] },
    { shape: [2 ** 40, 0], data: new Float32Array(0) },
    { data: new Float32Array(2) },
    new Float32Array(4),
  ),
);

const junk = fc.oneof(
  { weight: 4, arbitrary: tensors },
  {
    weight: 3,
    arbitrary: fc.constantFrom<unknown>(
      ...[
        null,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        -1,
        0,
        1,
        2,
        1.5,
        2 ** 31,
        2 ** 53,
        -0,
        "",
        "soft",
        "hard",
        "x",
        true,
      ],
      ...[
        false,
        {},
        [],
        [0, 4],
        [1, 2],
        [4, 0],
        [Number.NaN],
        [[1]],
        { left: 1 },
        { left: -1 },
        { left: "1" },
        { right: null },
      ],
      ...[
        10n,
        Symbol("s"),
        () => 1,
        new Date(0),
        { topKeys: 3 },
        { rate: 2 },
        { weight: 1 },
        "lanes",
        "decode",
        "lse",
        "tensor",
      ],
    ),
  },
);

const ATTENTION = [
  ...["scale", "causal", "window", "queryStart", "prefix", "keyLengths", "queryOffsets", "keyOffsets", "mask", "bias"],
  ...["alibiSlopes", "softcap", "sinks", "relativeBias", "dropout", "selection", "keep", "capture", "kernel"],
  ...["as", "signal", "deterministic", "onKernels", "onPlan", "causalMask", "__proto__", "constructor"],
];

const options = (names: readonly string[]) =>
  fc
    .array(fc.tuple(fc.constantFrom(...names), junk), { maxLength: 3 })
    .map((entries) => Object.fromEntries(entries) as Record<string, unknown>);

const good = (...shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5) });
const maybe = (value: unknown) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant<unknown>(value) }, { weight: 1, arbitrary: junk });

/** Runs a call and holds it to: a result, or a typed error whose message says who speaks and how to mend it. */
async function holds(call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof HeedError)) throw error;
    expect(error.code).toMatch(/^(SHAPE|USAGE|UNSUPPORTED|LIMIT|DISPOSED|ABORTED)$/);
    expect(error.message).toMatch(/^[a-zA-Z_ ]+: .*\.$/s);
    expect(error.message).not.toMatch(
      /valibot|undefined is not|Cannot read|Expected .* but received|\[object Object\]/,
    );
  }
}

async function stillWorks(engine: Engine): Promise<void> {
  await engine.device.idle();
  const { data } = await engine.softmax({ shape: [1, 2], data: Float32Array.of(0, 0) });
  assertClose(data, [0.5, 0.5], { atol: 1e-6, rtol: 0 });
}

await describeOnTiers("hostile input", (engine, tier) => {
  // The checks are the same on every tier: the rest is a matter of what is valid by chance.
  const runs = tier === "core" ? 400 : 100;
  const check = <T extends unknown[]>(
    arbitrary: fc.Arbitrary<T>,
    call: (...args: T) => Promise<unknown>,
    numRuns = runs,
  ) =>
    fc.assert(
      fc.asyncProperty(arbitrary, (args) => holds(() => call(...args))),
      { numRuns, seed: testSeed(`hostile input on ${tier}`, 77), endOnFailure: true },
    );
  type Any = never;

  it("to attention gives a typed error or a result", async () => {
    const [q, k] = [good(1, 2, 3, 4), good(1, 1, 4, 4)];
    await check(fc.tuple(maybe(q), maybe(k), maybe(k), options(ATTENTION)), (a, b, c, o) =>
      engine().attention(a as Any, b as Any, c as Any, o as Any),
    );
    await check(
      fc.tuple(maybe(q), maybe(k), maybe(k), maybe(q), options(ATTENTION)),
      (a, b, c, d, o) => engine().attentionBackward(a as Any, b as Any, c as Any, d as Any, o as Any),
      runs / 4,
    );
    await check(fc.tuple(junk), (o) => engine().attention(q, k, k, o as Any), 50);
    await stillWorks(engine());
  });

  it("to the other ops gives a typed error or a result", async () => {
    const [x, w] = [good(3, 4), good(4)];
    const e = () => engine() as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const calls: [string, unknown[], string[]][] = [
      ["rmsNorm", [x, w], ["eps", "plusOne"]],
      ["layerNorm", [x, w], ["eps", "bias"]],
      ["groupNorm", [x, w], ["eps", "bias", "groups"]],
      ["rowMoments", [x], ["eps"]],
      ["rope", [good(3, 1, 4)], ["positions", "table", "theta", "maxPositions", "rotaryDim", "interleaved"]],
      ["softmax", [x], ["axis"]],
      ["logSoftmax", [x], ["axis"]],
      ["gelu", [x], ["approximate"]],
      ["silu", [x], []],
      ["activation", [x, "relu"], []],
      ["gatedActivation", [x, "silu"], []],
      ["linear", [x, good(2, 4)], ["bias"]],
      ["matmul", [x, good(4, 2)], ["layout", "alpha"]],
      ["embedding", [{ shape: [2], data: Uint32Array.of(0, 9) }, x], []],
      ["add", [x, x], []],
      [
        "crossEntropy",
        [x, { shape: [3], data: Int32Array.of(0, 9, -100) }],
        ["weights", "reduction", "ignoreIndex", "labelSmoothing", "fromLogProbs"],
      ],
    ];
    for (const [name, operands, names] of calls) {
      const args = fc.tuple(...operands.map(maybe), options([...names, "as", "deterministic", "other"]));
      await check(
        args,
        (...given) => (e()[name] as (...a: unknown[]) => Promise<unknown>).apply(engine(), given),
        runs / 10,
      );
    }
    await stillWorks(engine());
  });
});
