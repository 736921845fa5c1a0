import { describe, expect, it } from "vitest";
import { activation, activationBackward, type ActivationName, erf, erfc } from "../../src/reference/activation.ts";
import { gatedActivation, gatedActivationBackward } from "../../src/reference/gated_activation.ts";
import { embedding, embeddingBackward } from "../../src/reference/embedding.ts";
import { residual } from "../../src/reference/residual.ts";
import { assertClose } from "../support/close.ts";
import { createRandom } from "../support/random.ts";
import { checkGradient, dot } from "./finite_difference.ts";

const NAMES: ActivationName[] = ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"];

describe("activation", () => {
  it("takes erf and erfc from their tables (Abramowitz and Stegun, table 7.1)", () => {
    const known: [number, number][] = [
      [0, 0],
      [0.5, 0.5204998778130465],
      [1, 0.8427007929497149],
      [2, 0.9953222650189527],
      [2.5, 0.999593047982555],
      [-1, -0.8427007929497149],
    ];
    for (const [x, y] of known) assertClose([erf(x)], [y], { atol: 1e-15, rtol: 1e-15, label: `erf(${x})` });
    assertClose([erfc(3), erfc(5), erfc(-5)], [2.209049699858544e-5, 1.5374597944280349e-12, 2], {
      atol: 0,
      rtol: 1e-12,
      label: "erfc",
    });
  });

  it("has the values that its formulas give", () => {
    const x = Float64Array.of(-2, 0, 1);
    assertClose(activation("relu", x), [0, 0, 1], { atol: 0, rtol: 0 });
    assertClose(activation("gelu", x), [-0.04550026389635842, 0, 0.8413447460685429], { atol: 1e-15, rtol: 0 });
    assertClose(activation("gelu_tanh", x), [-0.0454023059, 0, 0.8411919906], { atol: 1e-10, rtol: 0 });
    assertClose(activation("silu", x), [-0.2384058440442351, 0, 0.7310585786300049], { atol: 1e-15, rtol: 0 });
    assertClose(activation("sigmoid", Float64Array.of(-1e4, 1e4)), [0, 1], { atol: 0, rtol: 0 });
  });

  for (const name of NAMES) {
    it(`has the gradient of its finite differences (${name})`, () => {
      const random = createRandom(2);
      const x = random.normals(40, 3);
      const dout = random.normals(40);
      checkGradient("dx", x, activationBackward(name, x, dout), () => dot(activation(name, x), dout));
      const up = random.normals(40);
      const { dgate, dup } = gatedActivationBackward(name, x, up, dout);
      checkGradient("dgate", x, dgate, () => dot(gatedActivation(name, x, up), dout));
      checkGradient("dup", up, dup, () => dot(gatedActivation(name, x, up), dout));
    });
  }
});

describe("embedding", () => {
  it("copies rows, and sums the gradients of a repeated id", () => {
    const weight = Float64Array.of(1, 2, 3, 4, 5, 6);
    expect([...embedding([2, 0, 2], weight, { C: 2 })]).toEqual([5, 6, 1, 2, 5, 6]);
    const dout = Float64Array.of(1, 10, 2, 20, 3, 30);
    expect([...embeddingBackward([2, 0, 2], dout, { V: 3, C: 2 })]).toEqual([2, 20, 0, 0, 4, 40]);
  });
});

describe("residual", () => {
  it("adds", () => {
    expect([...residual(Float64Array.of(1, 2), Float64Array.of(3, 5))]).toEqual([4, 7]);
  });
});
