import { expect, it } from "vitest";
import { attention, attentionBackward, type AttentionOptions } from "../../src/reference/attention.ts";
import { biasBackward, ofSequence } from "../../src/reference/qk_scores.ts";
import { relativeBiasBackward } from "../../src/reference/relative_bias.ts";
import { createRandom, type Random, testSeed } from "../support/random.ts";
import { checkGradient, dot } from "./finite_difference.ts";

const DRAWS = 100;

/** Sizes and any combination of options, small enough that each number can be moved by itself. */
function drawProblem(random: Random) {
  const Hkv = random.pick([1, 2]);
  const [B, H, T, S] = [random.int(1, 2), Hkv * random.pick([1, 2]), random.int(1, 4), random.int(1, 5)];
  const dims = { B, H, Hkv, T, S, D: random.int(1, 3), Dv: random.int(1, 3) };
  const often = <V>(make: () => V): V | undefined => (random.uniform() < 0.4 ? make() : undefined);
  const bySequence = (most: number) =>
    random.pick([random.int(0, most), Array.from({ length: B }, () => random.int(0, most))]);
  const broadcast = () => {
    const shape = [random.pick([1, B]), random.pick([1, H]), random.pick([1, T]), random.pick([1, S])] as const;
    return { shape, data: random.normals(shape.reduce((a, b) => a * b)) };
  };
  const masked = (data: Float64Array) =>
    data.map((x) => (random.uniform() < 0.15 ? random.pick([Number.NEGATIVE_INFINITY, -1e30, -3e38]) : x));
  const bias = often(broadcast);
  const kept = often(broadcast);
  const drawn = {
    causal: random.pick([true, false]),
    window: often(() =>
      random.pick([random.int(1, 4), { left: random.int(0, 3), right: random.int(0, 3) }, { right: 1 }]),
    ),
    queryStart: often(() => bySequence(4)),
    prefix: often(() => bySequence(3)),
    keyLengths: often(() => bySequence(S)),
    scale: random.pick([undefined, 0.7]),
    softcap: often(() => 1.5),
    alibiSlopes: often(() => Array.from({ length: H }, (_, h) => 2 ** -h)),
    sinks: often(() => random.normals(H)),
    bias: bias && { ...bias, data: masked(bias.data) },
    keep: kept && { ...kept, data: kept.data.map(() => random.pick([0, 1, 1])) },
    relative: often(() => ({
      ...{ buckets: 8, bidirectional: random.pick([true, false]), maxDistance: 16 },
      weight: random.normals(8 * H),
    })),
    dropout: often(() => Float64Array.from({ length: B * H * T * S }, () => random.pick([0, 1.5, 1.5]))),
  };
  return { dims, drawn };
}

it(`the reference's gradients are its finite differences in ${DRAWS} drawn specifications`, () => {
  const random = createRandom(testSeed("finite differences of attention", 310));
  const seen = new Set<string>();
  for (let i = 0; i < DRAWS; i++) {
    const { dims, drawn } = drawProblem(random);
    const options: AttentionOptions = drawn;
    const { B, H, Hkv, T, S, D, Dv } = dims;
    const [q, k, v] = [
      random.normals(B * H * T * D),
      random.normals(B * Hkv * S * D),
      random.normals(B * Hkv * S * Dv),
    ];
    const dout = random.normals(B * H * T * Dv);
    const loss = () => dot(attention(q, k, v, dims, options).out, dout);
    const { dq, dk, dv, dscores, dsinks } = attentionBackward(q, k, v, dout, dims, options);
    const check = (name: string, x: Float64Array, gradient: Float64Array) => {
      const context = `${name} of draw ${i}, seed ${random.seed}, ${JSON.stringify({ dims, ...drawn })}`;
      checkGradient(context, x, gradient, loss);
    };
    check("dq", q, dq);
    check("dk", k, dk);
    check("dv", v, dv);
    const { bias, relative, sinks } = drawn;
    if (sinks) check("dsinks", sinks, dsinks);
    if (bias) check("dbias", bias.data, biasBackward(dscores, dims, bias.shape));
    const starts = (b: number) => ofSequence(drawn.queryStart ?? 0, b);
    if (relative) check("drelative", relative.weight, relativeBiasBackward(dscores, dims, relative, starts));
    for (const [name, value] of Object.entries(drawn)) if (value !== undefined && value !== false) seen.add(name);
  }
  // Were an option never drawn, nothing would have been shown of it.
  expect(seen.size).toBe(Object.keys(drawProblem(random).drawn).length);
});
