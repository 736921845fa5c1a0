import { describe, expect, it } from "vitest";
import { layerNorm, layerNormBackward } from "../../src/reference/layer_norm.ts";
import { linear, linearBackward, matmul } from "../../src/reference/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../../src/reference/rms_norm.ts";
import { rope, ropeBackward, type RopeForm, ropeInverseFrequencies } from "../../src/reference/rope.ts";
import { assertClose } from "../support/close.ts";
import { createRandom } from "../support/random.ts";
import { checkGradient, dot } from "./finite_difference.ts";

const A = Float64Array.of(1, 2, 3, 4, 5, 6); // [2, 3]
const B = Float64Array.of(1, 0, 2, 1, 0, 1); // [3, 2]
const AB = [5, 5, 14, 11];

function transpose(x: Float64Array, rows: number, columns: number): Float64Array {
  return x.map((_, i) => x[(i % rows) * columns + Math.floor(i / rows)] as number);
}

describe("matmul", () => {
  it("is the same product in every layout", () => {
    const sizes = { M: 2, N: 2, K: 3 };
    const at = transpose(A, 2, 3);
    const bt = transpose(B, 3, 2);
    expect([...matmul(A, B, sizes)]).toEqual(AB);
    expect([...matmul(A, bt, { ...sizes, transposeB: true })]).toEqual(AB);
    expect([...matmul(at, B, { ...sizes, transposeA: true })]).toEqual(AB);
    expect([...matmul(at, bt, { ...sizes, transposeA: true, transposeB: true })]).toEqual(AB);
  });

  it("keeps batches apart", () => {
    const twice = (x: Float64Array): Float64Array => Float64Array.from([...x, ...x.map((v) => 2 * v)]);
    const out = matmul(twice(A), twice(B), { batch: 2, M: 2, N: 2, K: 3 });
    expect([...out]).toEqual([...AB, ...AB.map((v) => 4 * v)]);
  });
});

describe("linear", () => {
  it("has the gradient of its finite differences", () => {
    const random = createRandom(1);
    const sizes = { N: 3, I: 4, O: 5 };
    const [x, weight, bias, dout] = [12, 20, 5, 15].map((n) => random.normals(n)) as [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const loss = () => dot(linear(x, weight, { ...sizes, bias }), dout);
    const { dx, dweight, dbias } = linearBackward(x, weight, dout, sizes);
    checkGradient("dx", x, dx, loss);
    checkGradient("dweight", weight, dweight, loss);
    checkGradient("dbias", bias, dbias, loss);
  });
});

describe("norms", () => {
  const random = createRandom(4);
  const sizes = { N: 3, C: 7, eps: 1e-5 };
  const [x, weight, bias, dout] = [21, 7, 7, 21].map((n) => random.normals(n)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];

  it("give rows of mean 0 and variance 1, or of mean square 1", () => {
    const ones = new Float64Array(7).fill(1);
    const layer = layerNorm(x, ones, { ...sizes, eps: 0 }).out.subarray(0, 7);
    const rms = rmsNorm(x, ones, { ...sizes, eps: 0 }).out.subarray(0, 7);
    const meanSquare = (v: Float64Array): number => dot(v, v) / 7;
    const measured = [layer.reduce((a, b) => a + b, 0), meanSquare(layer), meanSquare(rms)];
    assertClose(measured, [0, 1, 1], { atol: 1e-14, rtol: 0 });
  });

  it("have the gradients of their finite differences", () => {
    const layerLoss = () => dot(layerNorm(x, weight, { ...sizes, bias }).out, dout);
    const layer = layerNormBackward(x, weight, dout, sizes);
    checkGradient("layer dx", x, layer.dx, layerLoss);
    checkGradient("layer dweight", weight, layer.dweight, layerLoss);
    checkGradient("layer dbias", bias, layer.dbias, layerLoss);
    const rmsLoss = () => dot(rmsNorm(x, weight, sizes).out, dout);
    const rms = rmsNormBackward(x, weight, dout, sizes);
    checkGradient("rms dx", x, rms.dx, rmsLoss);
    checkGradient("rms dweight", weight, rms.dweight, rmsLoss);
  });
});

describe("rope", () => {
  const forms: RopeForm[] = ["half", "interleaved"];

  it("turns the pairs of its form by position times frequency", () => {
    const quarter = { N: 1, H: 1, D: 5, positions: [1], inverseFrequencies: [Math.PI / 2, Math.PI] };
    const x = Float64Array.of(1, 2, 3, 4, 9);
    assertClose(rope(x, { ...quarter, form: "half" }), [-3, -2, 1, -4, 9], { atol: 1e-14, rtol: 0 });
    assertClose(rope(x, { ...quarter, form: "interleaved" }), [-2, 1, -3, -4, 9], { atol: 1e-14, rtol: 0 });
  });

  for (const form of forms) {
    it(`keeps q·k a function of the distance only (${form})`, () => {
      const random = createRandom(9);
      const [q, k] = [random.normals(8), random.normals(8)];
      const product = (p: number): number => {
        const common = { N: 1, H: 1, D: 8, form, inverseFrequencies: ropeInverseFrequencies(10000, 8) };
        return dot(rope(q, { ...common, positions: [p + 5] }), rope(k, { ...common, positions: [p] }));
      };
      assertClose([product(0), product(1000)], [product(3), product(3)], { atol: 1e-10, rtol: 0 });
    });

    it(`has the gradient of its finite differences (${form}, partial, factor)`, () => {
      const random = createRandom(9);
      const inverseFrequencies = ropeInverseFrequencies(10000, 4);
      const options = { N: 2, H: 2, D: 6, form, positions: [3, 900], inverseFrequencies, factor: 1.2 };
      const x = random.normals(24);
      const dout = random.normals(24);
      checkGradient("dx", x, ropeBackward(dout, options), () => dot(rope(x, options), dout));
    });
  }
});
