import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { attention, attentionBackward, type AttentionOptions } from "../../src/reference/attention.ts";
import { maskedSoftmax } from "../../src/reference/masked_softmax.ts";
import { type AttentionDims, biasBackward, MASKED } from "../../src/reference/qk_scores.ts";
import { type AssetArray, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { createRandom } from "../support/random.ts";
import { ROW_SUM_ATOL } from "../support/tolerances.ts";
import { checkGradient, dot } from "./finite_difference.ts";

const CASES: [string, Partial<AttentionDims>, AttentionOptions][] = [
  ["no mask", {}, {}],
  ["causal with grouped heads", { H: 4, Hkv: 2 }, { causal: true, queryStart: 3 }],
  ["window and prefix", { T: 5, S: 7 }, { causal: true, queryStart: 2, prefix: 2, window: 4 }],
  ["key lengths with a dead row", { B: 2 }, { keyLengths: [0, 4] }],
  [
    "soft cap, ALiBi, sinks",
    { H: 2, Hkv: 1 },
    { softcap: 2, alibiSlopes: [0.5, 0.25], sinks: Float64Array.of(0.3, -1) },
  ],
  ["scale and value width", { Dv: 5 }, { scale: 0.7, causal: true, queryStart: 2 }],
];

function drawCase(partial: Partial<AttentionDims>) {
  const dims: AttentionDims = { B: 1, H: 2, Hkv: 2, T: 4, S: 6, D: 3, Dv: 3, ...partial };
  const random = createRandom(11);
  const q = random.normals(dims.B * dims.H * dims.T * dims.D);
  const k = random.normals(dims.B * dims.Hkv * dims.S * dims.D);
  const v = random.normals(dims.B * dims.Hkv * dims.S * dims.Dv);
  const dout = random.normals(dims.B * dims.H * dims.T * dims.Dv);
  return { dims, q, k, v, dout };
}

describe("attention", () => {
  it("gives a fully masked row 0, weights 0 and lse −1e30", () => {
    const { dims, q, k, v } = drawCase({ B: 2 });
    const { out, lse, probs } = attention(q, k, v, dims, { keyLengths: [0, 3] });
    const half = out.length / 2;
    expect([...out.slice(0, half)].every((x) => x === 0)).toBe(true);
    expect([...out.slice(half)].every((x) => x !== 0)).toBe(true);
    expect([...lse.slice(0, lse.length / 2)].every((x) => x === MASKED)).toBe(true);
    expect(probs[probs.length / 2 + 3]).toBe(0);
  });

  it("is the mean of the values where all scores are equal, and stays finite at ±1e4", () => {
    const dims: AttentionDims = { B: 1, H: 1, Hkv: 1, T: 1, S: 2, D: 1, Dv: 1 };
    const mean = attention(Float64Array.of(0), Float64Array.of(1, 2), Float64Array.of(1, 3), dims);
    assertClose(mean.out, [2], { atol: 1e-15, rtol: 0 });
    const sharp = attention(Float64Array.of(1e4), Float64Array.of(1, -1), Float64Array.of(1, 3), dims);
    assertClose(sharp.out, [1], { atol: 0, rtol: 0 });
    assertClose(sharp.lse, [1e4], { atol: 0, rtol: 0 });
  });

  it("reads −∞ and entries ≤ −1e30 of a bias, and zeros of a keep mask, as masked", () => {
    const { dims, q, k, v } = drawCase({ T: 1, S: 3 });
    const bias = { data: [Number.NEGATIVE_INFINITY, -1e30, 0], shape: [1, 1, 1, 3] as const };
    const keep = { data: [0, 0, 1], shape: [1, 1, 1, 3] as const };
    const one = attention(q, k, v, dims, { bias });
    expect([...one.probs]).toEqual([0, 0, 1, 0, 0, 1]);
    expect([...attention(q, k, v, dims, { keep }).probs]).toEqual([0, 0, 1, 0, 0, 1]);
  });

  it("gives rows of weights that sum to 1", () => {
    const { dims, q, k, v } = drawCase({ B: 2, H: 4, Hkv: 2 });
    const { probs } = attention(q, k, v, dims, { causal: true, queryStart: 2, window: 3, softcap: 1 });
    for (let row = 0; row < probs.length; row += dims.S) {
      const sum = probs.subarray(row, row + dims.S).reduce((a, b) => a + b, 0);
      assertClose([sum], [1], { atol: ROW_SUM_ATOL, rtol: 0 });
    }
  });

  it("lets a sink take its share", () => {
    const { probs } = maskedSoftmax(Float64Array.of(0, 0), { B: 1, H: 1, T: 1, S: 2 }, Float64Array.of(Math.log(2)));
    assertClose(probs, [0.25, 0.25], { atol: 1e-15, rtol: 0 });
  });

  for (const [name, partial, options] of CASES) {
    it(`has the gradient of its finite differences (${name})`, () => {
      const { dims, q, k, v, dout } = drawCase(partial);
      const loss = () => dot(attention(q, k, v, dims, options).out, dout);
      const gradients = attentionBackward(q, k, v, dout, dims, options);
      checkGradient("dq", q, gradients.dq, loss);
      checkGradient("dk", k, gradients.dk, loss);
      checkGradient("dv", v, gradients.dv, loss);
      if (options.sinks) checkGradient("dsinks", options.sinks, gradients.dsinks, loss);
    });
  }

  it("has the gradient of a full bias", () => {
    const { dims, q, k, v, dout } = drawCase({});
    const bias = createRandom(5).normals(dims.H * dims.T * dims.S);
    const options: AttentionOptions = { bias: { data: bias, shape: [1, dims.H, dims.T, dims.S] } };
    const { dscores } = attentionBackward(q, k, v, dout, dims, options);
    checkGradient("dbias", bias, dscores, () => dot(attention(q, k, v, dims, options).out, dout));
  });
});

interface TorchCase {
  options: {
    B: number;
    H: number;
    Hkv: number;
    T: number;
    S: number;
    D: number;
    Dv: number;
    scale: number;
    causal: boolean;
    query_start: number;
    prefix: number;
    window: number | null;
    key_lengths: number[] | null;
    softcap: number | null;
    alibi: boolean;
  };
  inputs: Record<string, AssetArray>;
  outputs: Record<string, AssetArray>;
}

describeWithAssets("attention against PyTorch", "vectors/torch", (path) => {
  for (const file of readdirSync(path).filter((name) => name.startsWith("attention_"))) {
    it(file.replace(".json", ""), () => checkTorchCase(readJson<TorchCase>(join(path, file))));
  }
});

function checkTorchCase({ options, inputs, outputs }: TorchCase): void {
  const { H } = options;
  const input = (name: string): Float64Array | undefined => inputs[name] && decodeArray(inputs[name]);
  const bias = input("bias");
  const all: AttentionOptions = {
    scale: options.scale,
    causal: options.causal,
    queryStart: options.query_start,
    prefix: options.prefix,
    window: options.window ?? undefined,
    keyLengths: options.key_lengths ?? undefined,
    softcap: options.softcap ?? undefined,
    alibiSlopes: options.alibi ? Array.from({ length: H }, (_, h) => 2 ** ((-8 * (h + 1)) / H)) : undefined,
    sinks: input("sinks"),
    bias: bias && { data: bias, shape: inputs["bias"]?.shape as [number, number, number, number] },
  };
  const [q, k, v, dout] = ["q", "k", "v", "dout"].map((name) => input(name) as Float64Array) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const gradients = attentionBackward(q, k, v, dout, options, all);
  const results: Record<string, Float64Array> = { ...attention(q, k, v, options, all), ...gradients };
  if (all.bias) results["dbias"] = biasBackward(gradients.dscores, options, all.bias.shape);
  for (const [name, expected] of Object.entries(outputs)) {
    // The expected values were computed in float64 and rounded to f32 once: 6e-8 relative.
    const close = { atol: 1e-6, rtol: 1e-6, label: name, shape: expected.shape };
    assertClose(results[name] as Float64Array, decodeArray(expected), close);
  }
}
