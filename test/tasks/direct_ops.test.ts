import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Tensor } from "../../src/gpu/tensor.ts";
import type { ArrayTensor } from "../../src/program/direct.ts";
import { activation } from "../../src/reference/activation.ts";
import { attention, attentionBackward } from "../../src/reference/attention.ts";
import { crossEntropy } from "../../src/reference/cross_entropy.ts";
import { layerNorm } from "../../src/reference/layer_norm.ts";
import { matmul } from "../../src/reference/matmul.ts";
import { rmsNorm } from "../../src/reference/rms_norm.ts";
import { rope, ropeInverseFrequencies } from "../../src/reference/rope.ts";
import type { Engine } from "../../src/tasks/engine.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

const random = createRandom(31);
const drawn = (...shape: number[]): ArrayTensor<Float32Array> => {
  const data = Float32Array.from(random.normals(shape.reduce((a, b) => a * b, 1)));
  return { shape, data };
};
const f64 = ({ data }: ArrayTensor): Float64Array => Float64Array.from(data);

const [B, H, Hkv, T, S, D] = [2, 4, 2, 5, 7, 8];
const dims = { B, H, Hkv, T, S, D, Dv: D };
const [q, k, v, dout] = [drawn(B, H, T, D), drawn(B, Hkv, S, D), drawn(B, Hkv, S, D), drawn(B, H, T, D)] as const;

await describeOnTiers("direct calls", (engine) => {
  it("attend, and give the gradients of attention", async () => {
    const options = { causal: true, queryStart: 2, keyLengths: [7, 3] };
    const expected = attention(f64(q), f64(k), f64(v), dims, options);
    const { out, lse } = await engine().attention(q, k, v, { ...options, keep: "lse" });
    expect(out.shape).toEqual([B, H, T, D]);
    assertClose(out.data, expected.out, tolerance("f32", "attention"));
    assertClose((lse as ArrayTensor).data, expected.lse, tolerance("f32", "attention"));
    const grads = await engine().attentionBackward(q, k, v, dout, options);
    const expectedGrads = attentionBackward(f64(q), f64(k), f64(v), f64(dout), dims, options);
    for (const name of ["dq", "dk", "dv"] as const) {
      expect(grads[name].shape).toEqual(name === "dq" ? q.shape : k.shape);
      assertClose(grads[name].data, expectedGrads[name], { ...gradientTolerance(expectedGrads[name]), label: name });
    }
  });

  it("normalise over the last axis of any shape", async () => {
    const [x, weight, bias] = [drawn(2, 3, 10), drawn(10), drawn(10)] as const;
    const sizes = { N: 6, C: 10 };
    const rms = await engine().rmsNorm(x, weight, { eps: 1e-3 });
    expect(rms.shape).toEqual([2, 3, 10]);
    assertClose(rms.data, rmsNorm(f64(x), f64(weight), { ...sizes, eps: 1e-3 }).out, tolerance("f32"));
    const expected = layerNorm(f64(x), f64(weight), { ...sizes, eps: 1e-5, bias: f64(bias) });
    assertClose((await engine().layerNorm(x, weight, { bias })).data, expected.out, tolerance("f32"));
    const { mean, rstd } = await engine().rowMoments(x);
    expect(mean.shape).toEqual([2, 3]);
    assertClose(mean.data, expected.mean, tolerance("f32"));
    assertClose(rstd.data, expected.rstd, tolerance("f32"));
  });

  it("normalise groups of channels as layer norm does where a group is all of them", async () => {
    const [x, weight, bias] = [drawn(3, 4, 5), drawn(4), drawn(4)] as const;
    const ones = new Float64Array(20).fill(1);
    const { out } = layerNorm(f64(x), ones, { N: 3, C: 20, eps: 1e-5 });
    const expected = out.map((y, i) => {
      const c = Math.floor(i / 5) % 4;
      return y * (weight.data[c] as number) + (bias.data[c] as number);
    });
    assertClose((await engine().groupNorm(x, weight, { bias, groups: 1 })).data, expected, tolerance("f32"));
    const rows = layerNorm(f64(x), ones, { N: 6, C: 10, eps: 1e-5 }).out;
    const plain = await engine().groupNorm(x, { shape: [4], data: new Float32Array(4).fill(1) }, { groups: 2 });
    assertClose(plain.data, rows, tolerance("f32"));
  });

  it("take softmax and its logarithm over any axis, of large values too", async () => {
    const x = drawn(3, 4, 5);
    const large = { shape: x.shape, data: x.data.map((value) => value * 1e4) };
    for (const axis of [0, 1, -1]) {
      const inner = [20, 5, 1].at(axis) as number;
      const columns = x.shape.at(axis) as number;
      const rowOf = (i: number) => Math.floor(i / (inner * columns)) * inner * columns + (i % inner);
      const logOf = (values: Float64Array) =>
        values.map((value, i) => {
          const row = Array.from({ length: columns }, (_, c) => values[rowOf(i) + c * inner] as number);
          const max = Math.max(...row);
          return value - max - Math.log(row.reduce((sum, r) => sum + Math.exp(r - max), 0));
        });
      const expected = logOf(f64(x));
      assertClose((await engine().softmax(x, { axis })).data, expected.map(Math.exp), tolerance("f32"));
      assertClose((await engine().logSoftmax(x, { axis })).data, expected, tolerance("f32"));
      assertClose((await engine().logSoftmax(large, { axis })).data, logOf(f64(large)), tolerance("f32"));
    }
  });

  it("apply activations, matrices and rotary embeddings", async () => {
    const x = drawn(2, 3, 8);
    const [a, b] = [drawn(2, 3, 4), drawn(2, 4, 6)] as const;
    assertClose((await engine().gelu(x)).data, activation("gelu", f64(x)), tolerance("f32"));
    assertClose(
      (await engine().gelu(x, { approximate: "tanh" })).data,
      activation("gelu_tanh", f64(x)),
      tolerance("f32"),
    );
    assertClose((await engine().silu(x)).data, activation("silu", f64(x)), tolerance("f32"));
    const product = await engine().matmul(a, b);
    expect(product.shape).toEqual([2, 3, 6]);
    assertClose(product.data, matmul(f64(a), f64(b), { batch: 2, M: 3, N: 6, K: 4 }), tolerance("f32"));
    const weight = drawn(5, 8);
    const projected = await engine().linear(x, weight);
    expect(projected.shape).toEqual([2, 3, 5]);
    assertClose(projected.data, matmul(f64(x), f64(weight), { M: 6, N: 5, K: 8, transposeB: true }), tolerance("f32"));
    const heads = drawn(2, 3, 2, 8);
    const positions = Array.from({ length: 6 }, (_, n) => n % 3);
    const turned = rope(f64(heads), {
      ...{ N: 6, H: 2, D: 8, form: "half", positions },
      inverseFrequencies: ropeInverseFrequencies(10_000, 8),
    });
    assertClose((await engine().rope(heads)).data, turned, tolerance("f32"));
  });

  it("give each row's loss, with class weights, smoothing and axes after the classes", async () => {
    const logits = drawn(4, 6);
    const targets = { shape: [4], data: Int32Array.of(5, -100, 0, 3) };
    const smooth = await engine().crossEntropy(logits, targets, { labelSmoothing: 0.2 });
    const expected = crossEntropy(f64(logits), targets.data, { N: 4, V: 6, labelSmoothing: 0.2 });
    assertClose(smooth.loss.data, [expected.loss], tolerance("f32"));
    assertClose(smooth.losses.data, expected.losses, tolerance("f32"));
    const weights = { shape: [6], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
    const plain = crossEntropy(f64(logits), targets.data, { N: 4, V: 6 }).losses;
    const weighted = plain.map((loss, n) => loss * Math.max(0, (targets.data[n] as number) + 1));
    const total = weighted.reduce((sum, loss) => sum + loss, 0);
    const sum = await engine().crossEntropy(logits, targets, { weights, reduction: "sum" });
    assertClose(sum.losses.data, weighted, tolerance("f32"));
    assertClose(sum.loss.data, [total], tolerance("f32"));
    const mean = await engine().crossEntropy(logits, targets, { weights });
    assertClose(mean.loss.data, [total / 11], tolerance("f32"));
    // [2, 3, 2]: of each of the last axis' two, the classes are two apart.
    const cube = { shape: [2, 3, 2], data: logits.data.subarray(0, 12) };
    const columns = [0, 1, 6, 7].flatMap((at) => [0, 2, 4].map((c) => cube.data[at + c] as number));
    const labels = Int32Array.of(2, 0, 1, 1);
    const apart = await engine().crossEntropy(cube, { shape: [2, 2], data: labels }, { ignoreIndex: 0 });
    const flat = crossEntropy(Float64Array.from(columns), labels, { N: 4, V: 3, ignoreIndex: 0 });
    assertClose(apart.losses.data, flat.losses, tolerance("f32"));
    assertClose(apart.loss.data, [flat.loss], tolerance("f32"));
  });
});

await describeOnTiers("direct calls, as a service,", (engine, tier) => {
  it.skipIf(tier !== "full" && tier !== "core")(
    "are planned once for a shape, and create no buffer when called again but to read",
    async () => {
      const x = drawn(4, 16);
      await engine().gelu(x);
      const { device, programs } = engine();
      const [kept, held, pipelines] = [programs.size, device.bytesInUse, device.pipelineCount];
      const again = await engine().gelu(drawn(4, 16));
      expect(again.shape).toEqual([4, 16]);
      expect([programs.size, device.bytesInUse, device.pipelineCount]).toEqual([kept, held, pipelines]);
    },
  );

  it("never mix calls that run at once", async () => {
    const inputs = Array.from({ length: 12 }, (_, i) => ({
      shape: [3, 8 + (i % 2)],
      data: new Float32Array(3 * (8 + (i % 2))).fill(i),
    }));
    const results = await Promise.all(inputs.map((x) => engine().activation(x, "relu")));
    results.forEach((result, i) => {
      expect([...new Set(result.data)]).toEqual([i]);
    });
  });

  it("take tensors on the GPU, and give them when asked", async () => {
    const { device } = engine();
    const x = drawn(2, 3, 8);
    const before = device.buffersInUse;
    const tensor = Tensor.from(device, "x", x.shape, "f32", x.data);
    const first = await engine().silu(tensor, { as: "tensor" });
    expect(first).toBeInstanceOf(Tensor);
    const second = await engine().silu(first);
    const expected = activation("silu", activation("silu", f64(x)));
    assertClose(second.data, expected, tolerance("f32"));
    expect(engine().programs.size).toBeGreaterThan(0);
    tensor.dispose();
    await expect(engine().silu(tensor)).rejects.toMatchObject({ code: "DISPOSED" });
    first.dispose();
    engine().programs.clear();
    await device.idle();
    expect(device.buffersInUse).toBeLessThanOrEqual(before);
  });

  it("keep few plans, and free those that go", async () => {
    const { device, programs } = engine();
    programs.clear();
    await device.idle();
    const before = { buffers: device.buffersInUse, bytes: device.bytesInUse };
    for (let n = 1; n <= 20; n++) await engine().activation(drawn(1, n), "tanh");
    expect(programs.size).toBe(16);
    programs.clear();
    await device.idle();
    expect({ buffers: device.buffersInUse, bytes: device.bytesInUse }).toEqual(before);
  });

  it("stop for their signal", async () => {
    await expect(engine().gelu(drawn(2, 2), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ABORTED",
    });
    expect((await engine().gelu(drawn(2, 2))).shape).toEqual([2, 2]);
  });
});

describe("direct calls refuse", () => {
  let engine: Engine;
  beforeAll(async () => {
    const { createEngine } = await import("../../src/node.ts");
    engine = await createEngine();
  });
  afterAll(() => engine?.dispose());

  const x = drawn(2, 4);
  const cases: [string, () => Promise<unknown>, string, string][] = [
    [
      "q, k and v that are not four-dimensional",
      () => engine.attention(x, k, v),
      "SHAPE",
      "attention: q must be [B, H, T, D], k [B, Hkv, S, D] and v [B, Hkv, S, Dv]; got q [2, 4], k [2, 2, 7, 8], v [2, 2, 7, 8].",
    ],
    [
      "an option that there is not",
      () => engine.gelu(x, { axis: 1 } as object),
      "UNSUPPORTED",
      'gelu: there is no option "axis"; there are as, signal, deterministic, onKernels, onPlan, approximate.',
    ],
    [
      "data of another length",
      () => engine.softmax({ shape: [2, 3], data: new Float32Array(5) }),
      "SHAPE",
      "softmax: x must have as many values as its shape; got [2, 3], 5 values.",
    ],
    [
      "data of another type",
      () => engine.softmax({ shape: [2], data: new Float64Array(2) } as unknown as ArrayTensor),
      "USAGE",
      "softmax: x must be a Tensor, or {shape, data} with a Float32Array, Uint16Array (f16 bits), Int32Array or Uint32Array; got Float64Array.",
    ],
    [
      "an axis that is not there",
      () => engine.softmax(x, { axis: 2 }),
      "SHAPE",
      "softmax: x must be f32 and axis one of its axes; got x [2, 4] f32, axis 2.",
    ],
    [
      "a gain of another width",
      () => engine.rmsNorm(x, drawn(3)),
      "SHAPE",
      "rms_norm: weight must be [C] f32 with C = 4; got weight [3] f32. Load norm weights as f32.",
    ],
    [
      "a dout of another shape",
      () => engine.attentionBackward(q, k, v, x),
      "SHAPE",
      "attention_backward: dout must be [B, H, T, Dv] = [2, 4, 5, 8] f32; got dout [2, 4] f32.",
    ],
    [
      "a dout in f16",
      () => engine.attentionBackward(q, k, v, { shape: [2, 4, 5, 8], data: new Uint16Array(320) }),
      "SHAPE",
      "attention_backward: dout must be [B, H, T, Dv] = [2, 4, 5, 8] f32; got dout [2, 4, 5, 8] f16.",
    ],
    [
      "gradients of no rows",
      () => engine.attentionBackward(drawn(2, 4, 0, 8), k, v, drawn(2, 4, 0, 8)),
      "SHAPE",
      "attention_backward: B and T must be at least 1; got out [2, 4, 0, 8].",
    ],
    [
      "attention over no keys",
      () => engine.attention(q, drawn(2, 2, 0, 8), drawn(2, 2, 0, 8)),
      "SHAPE",
      "attention: S must be at least 1; got q [2, 4, 5, 8] f32, k [2, 2, 0, 8] f32.",
    ],
    [
      "channels that groups do not divide",
      () => engine.groupNorm(x, drawn(4), { groups: 3 }),
      "SHAPE",
      "group_norm: x must be [N, C, …] f32 with C a multiple of groups; got x [2, 4] f32, groups 3.",
    ],
    [
      "smoothing past 1",
      () => engine.crossEntropy(x, { shape: [2], data: Int32Array.of(0, 1) }, { labelSmoothing: 2 }),
      "USAGE",
      "cross_entropy: labelSmoothing must be from 0 to 1; got 2.",
    ],
  ];
  it.each(cases)("%s", async (_, call, code, message) => {
    await expect(call()).rejects.toMatchObject({ code, message });
  });

  it("nothing where there are no rows: the result has none either", async () => {
    expect(await engine.linear(drawn(0, 4), drawn(3, 4))).toEqual({ shape: [0, 3], data: new Float32Array(0) });
    expect((await engine.softmax(drawn(0, 3))).data.length).toBe(0);
    expect((await engine.groupNorm(drawn(0, 4, 3), drawn(4), { groups: 2 })).shape).toEqual([0, 4, 3]);
    const { out } = await engine.attention(drawn(2, 4, 0, 8), k, v);
    expect(out.shape).toEqual([2, 4, 0, 8]);
    const tensor = await engine.linear(drawn(0, 4), drawn(3, 4), { as: "tensor" });
    expect(tensor.shape).toEqual([0, 3]);
    tensor.dispose();
  });

  it("calls after dispose, and leave nothing behind", async () => {
    const { device } = engine;
    await engine.gelu(x);
    await engine.dispose();
    expect(device.buffersInUse).toBe(0);
    await expect(engine.gelu(x)).rejects.toMatchObject({ code: "DISPOSED" });
  });
});
