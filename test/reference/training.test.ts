import { describe, expect, it } from "vitest";
import { adamwStep } from "../../src/reference/adamw.ts";
import { clipGradients } from "../../src/reference/clip_gradients.ts";
import { crossEntropy } from "../../src/reference/cross_entropy.ts";
import { dropout, dropoutBackward, dropoutWord, philox4x32 } from "../../src/reference/dropout.ts";
import { sgdStep } from "../../src/reference/sgd.ts";
import { assertClose } from "../support/close.ts";
import { createRandom } from "../support/random.ts";
import { checkGradient, dot } from "./finite_difference.ts";

const EXACT = { atol: 0, rtol: 0 };

describe("crossEntropy", () => {
  it("is log V for equal logits, and 0 with gradient 0 where every target is ignored", () => {
    assertClose([crossEntropy(new Float64Array(8), [1, 3], { N: 2, V: 4 }).loss], [Math.log(4)], {
      atol: 1e-15,
      rtol: 0,
    });
    const ignored = crossEntropy(Float64Array.of(1, 2), [-100], { N: 1, V: 2 });
    expect([ignored.loss, ignored.count, ...ignored.dlogits]).toEqual([0, 0, 0, 0]);
  });

  it("stays finite for logits of ±1e4", () => {
    const { loss, dlogits } = crossEntropy(Float64Array.of(1e4, -1e4), [1], { N: 1, V: 2 });
    assertClose([loss, ...dlogits], [2e4, 1, -1], EXACT);
  });

  for (const labelSmoothing of [0, 0.1]) {
    it(`has the gradient of its finite differences (smoothing ${labelSmoothing}, one row ignored)`, () => {
      const logits = createRandom(6).normals(24, 2);
      const options = { N: 4, V: 6, labelSmoothing };
      const loss = () => crossEntropy(logits, [2, -100, 0, 5], options).loss;
      checkGradient("dlogits", logits, crossEntropy(logits, [2, -100, 0, 5], options).dlogits, loss);
    });
  }
});

describe("dropout", () => {
  it("draws Philox4x32-10's published known answers", () => {
    const ones = 0xffffffff;
    expect(philox4x32([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    expect(philox4x32([ones, ones, ones, ones], [ones, ones])).toEqual([
      0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd,
    ]);
    expect(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });

  it("takes word index mod 4 at counter (index / 4, op, step, 0)", () => {
    const options = { p: 0.5, seed: [1, 2], opId: 7, step: 9 } as const;
    const words = philox4x32([2, 7, 9, 0], [1, 2]);
    expect([8, 9, 10, 11].map((i) => dropoutWord(i, options))).toEqual([...words]);
  });

  it("drops a share p, scales the rest, and changes with seed, op and step", () => {
    const x = new Float64Array(20_000).fill(1);
    const options = { p: 0.25, seed: [5, 0], opId: 3, step: 1 } as const;
    const out = dropout(x, options);
    const kept = out.filter((v) => v !== 0);
    expect(Math.abs(kept.length / x.length - 0.75)).toBeLessThan(0.01);
    assertClose([kept[0] as number], [4 / 3], { atol: 1e-15, rtol: 0 });
    for (const other of [{ seed: [6, 0] as const }, { seed: [5, 1] as const }, { opId: 4 }, { step: 2 }]) {
      expect(dropout(x, { ...options, ...other })).not.toEqual(out);
    }
    expect([...dropout(x, { ...options, p: 0 })]).toEqual([...x]);
  });

  it("has the gradient of its finite differences", () => {
    const random = createRandom(8);
    const [x, dout] = [random.normals(33), random.normals(33)];
    const options = { p: 0.4, seed: [1, 1], opId: 1, step: 1 } as const;
    checkGradient("dx", x, dropoutBackward(dout, options), () => dot(dropout(x, options), dout));
  });
});

describe("optimisers", () => {
  it("sgd steps against the gradient, with decay and momentum as documented", () => {
    const param = Float64Array.of(1);
    sgdStep({ param }, Float64Array.of(2), { lr: 0.1, weightDecay: 0.5 });
    assertClose(param, [1 - 0.1 * 2.5], { atol: 1e-15, rtol: 0 });
    const state = { param: Float64Array.of(0), buffer: new Float64Array(1) };
    for (let i = 0; i < 2; i++) sgdStep(state, Float64Array.of(1), { lr: 1, momentum: 0.5 });
    assertClose(state.param, [-2.5], EXACT);
  });

  it("adamw's first step has size lr, whatever the gradient's", () => {
    const state = { param: Float64Array.of(1, 1), m: new Float64Array(2), v: new Float64Array(2) };
    const options = { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0, weightDecay: 0.5, step: 1 };
    adamwStep(state, Float64Array.of(1e-3, -7), options);
    assertClose(state.param, [0.95 - 0.1, 0.95 + 0.1], { atol: 1e-12, rtol: 0 });
  });

  it("clipping leaves a small norm alone and scales a large one", () => {
    const [a, b] = [Float64Array.of(3), Float64Array.of(4)];
    expect(clipGradients([a, b], 10)).toBe(5);
    assertClose([...a, ...b], [3, 4], EXACT);
    clipGradients([a, b], 1);
    assertClose([...a, ...b], [0.6, 0.8], { atol: 1e-6, rtol: 0 });
  });
});
