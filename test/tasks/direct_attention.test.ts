import { expect, it } from "vitest";
import { Tensor } from "../../src/gpu/tensor.ts";
import type { PlanDescription } from "../../src/program/describe.ts";
import type { ArrayTensor } from "../../src/program/direct.ts";
import { attention } from "../../src/reference/attention.ts";
import { attentionRagged, attentionRaggedBackward } from "../../src/reference/attention_ragged.ts";
import { weightSummary } from "../../src/reference/weight_summary.ts";
import type { AttentionCallOptions } from "../../src/tasks/direct_attention.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { toFloat16Bits } from "../support/float16.ts";
import { createRandom, type Random, testSeed } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

const f64 = ({ data }: ArrayTensor): Float64Array => Float64Array.from(data);
const floats = (random: Random, ...shape: number[]): ArrayTensor<Float32Array> => ({
  shape,
  data: Float32Array.from(random.normals(shape.reduce((a, b) => a * b, 1))),
});

/** Rows [from, to) of the third axis of `[1, H, N, D]`. */
function tokens({ shape, data }: ArrayTensor, from: number, to: number): ArrayTensor {
  const [, H, N, D] = shape as [number, number, number, number];
  const parts = Array.from({ length: H }, (_, h) => [...data.slice((h * N + from) * D, (h * N + to) * D)]).flat();
  return { shape: [1, H, to - from, D], data: Float32Array.from(parts) };
}

const OFFSETS = { queryOffsets: [0, 5, 5, 6, 18], keyOffsets: [0, 7, 9, 9, 22] };
const [H, Hkv, D, Dv, T, S, B] = [4, 2, 8, 6, 18, 22, 4];

function drawRagged(random: Random) {
  const often = <V>(value: V): V | undefined => (random.uniform() < 0.4 ? value : undefined);
  const each = (most: number) => Array.from({ length: B }, () => random.int(0, most));
  const shape = [random.pick([1, B]), random.pick([1, H]), random.pick([1, 12]), random.pick([1, 13])] as const;
  const bias = often({ shape, data: Float32Array.from(random.normals(shape.reduce((a, b) => a * b, 1))) });
  const kept = often({
    shape,
    data: Uint32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.pick([0, 1, 1])),
  });
  return {
    causal: random.pick([true, false]),
    window: often(random.pick([3, { left: 2, right: 1 }])),
    queryStart: often(random.pick([2, each(4)])),
    prefix: often(random.pick([3, each(5)])),
    keyLengths: often(each(13)),
    softcap: often(3),
    slopes: often(Float32Array.of(0.5, 0.25, 0.125, 0.0625)),
    sinks: often(floats(random, H)),
    bias,
    kept,
    selection: random.uniform() < 0.15 ? ("hard" as const) : undefined,
  };
}

type Drawn = ReturnType<typeof drawRagged>;

function callOptions({ slopes, kept, ...rest }: Drawn): AttentionCallOptions {
  return { ...rest, alibiSlopes: slopes && { shape: [H], data: slopes }, mask: kept };
}

function referenceOptions({ slopes, kept, bias, sinks, ...rest }: Drawn) {
  return { ...rest, alibiSlopes: slopes, keep: kept, bias, sinks: sinks && f64(sinks) };
}

await describeOnTiers("ragged attention", (engine, tier) => {
  const seed = { core: 71, subgroups: 72, f16: 73, full: 74 }[tier];

  it("matches the reference on drawn specifications, forward and backward", async () => {
    const random = createRandom(testSeed(`ragged attention on ${tier}`, seed));
    for (let i = 0; i < 8; i++) {
      const [q, k, v, dout] = [
        floats(random, 1, H, T, D),
        floats(random, 1, Hkv, S, D),
        floats(random, 1, Hkv, S, Dv),
        floats(random, 1, H, T, Dv),
      ] as const;
      const drawn = drawRagged(random);
      const options = { ...callOptions(drawn), ...OFFSETS };
      const dims = { H, Hkv, T, S, D, Dv, ...OFFSETS };
      const context = `${JSON.stringify(drawn)}, draw ${i} of seed ${random.seed}`;
      const want = attentionRagged(f64(q), f64(k), f64(v), dims, referenceOptions(drawn));
      const { out, lse } = await engine().attention(q, k, v, { ...options, keep: "lse" });
      assertClose(out.data, want.out, { ...tolerance("f32", "attention"), label: "out", context });
      assertClose((lse as ArrayTensor).data, want.lse, { atol: 1e-4, rtol: 1e-5, label: "lse", context });
      const grads = await engine().attentionBackward(q, k, v, dout, options);
      const all = attentionRaggedBackward(f64(q), f64(k), f64(v), f64(dout), dims, referenceOptions(drawn));
      for (const name of ["dq", "dk", "dv"] as const) {
        assertClose(grads[name].data, all[name], { ...gradientTolerance(all[name]), label: name, context });
      }
      if (drawn.sinks) {
        const close = gradientTolerance(all.dsinks);
        assertClose((grads.dsinks as ArrayTensor).data, all.dsinks, { ...close, label: "dsinks", context });
      }
    }
  });

  it("gives the bits of one sequence at a time, in either layout and in f16", async () => {
    const random = createRandom(75);
    const [q, k, v] = [floats(random, 1, H, T, D), floats(random, 1, Hkv, S, D), floats(random, 1, Hkv, S, D)] as const;
    const { queryOffsets, keyOffsets } = OFFSETS;
    const { out } = await engine().attention(q, k, v, { ...OFFSETS, causal: true, queryStart: [2, 0, 0, 1] });
    for (const [b, queryStart] of [2, 0, 0, 1].entries()) {
      const [t0, t1, s0, s1] = [queryOffsets[b], queryOffsets[b + 1], keyOffsets[b], keyOffsets[b + 1]] as number[];
      if (t0 === t1 || s0 === s1) continue;
      const [own, ownK, ownV] = [tokens(q, t0!, t1!), tokens(k, s0!, s1!), tokens(v, s0!, s1!)];
      const alone = await engine().attention(own, ownK, ownV, { causal: true, queryStart });
      expect(tokens(out, t0!, t1!).data).toEqual(alone.out.data);
    }
    const packed = (x: ArrayTensor): ArrayTensor => {
      const [, heads, N, width] = x.shape as [number, number, number, number];
      const data = new Float32Array(x.data.length);
      x.data.forEach((value, i) => {
        const [d, t, h] = [i % width, Math.floor(i / width) % N, Math.floor(i / width / N)];
        data[(t * heads + h) * width + d] = value;
      });
      return { shape: [N, heads, width], data };
    };
    const rows = await engine().attention(packed(q), packed(k), packed(v), {
      ...OFFSETS,
      causal: true,
      queryStart: [2, 0, 0, 1],
    });
    expect(rows.out).toEqual(packed(out));
    const halves = [q, k, v].map((x) => ({ shape: x.shape, data: toFloat16Bits(x.data) }));
    const half = await engine().attention(halves[0]!, halves[1]!, halves[2]!, { ...OFFSETS, causal: true });
    const dims = { H, Hkv, T, S, D, Dv: D, ...OFFSETS };
    const want = attentionRagged(f64(q), f64(k), f64(v), dims, { causal: true });
    assertClose(half.out.data, want.out, tolerance("f16", "attention"));
  });

  it("takes no memory for the products of lengths", async () => {
    const { device, programs } = engine();
    const queryOffsets = [0, 512, 513, 516, 816, 1024];
    const x = floats(createRandom(76), 1, 2, 1024, 8);
    programs.clear();
    await device.idle();
    const before = device.bytesInUse;
    await engine().attention(x, x, x, { queryOffsets, causal: true });
    // q, k, v, out and a copy of each: far from the 2 MiB of 512² scores of two heads.
    expect(device.bytesInUse - before).toBeLessThan(12 * x.data.byteLength);
  });
});

await describeOnTiers("the memory of a direct call", (engine) => {
  const random = createRandom(91);

  /** Bytes of all intermediates and results that `describe()` shows, whether they share memory or not. */
  const bytesAt = async (length: number, options: AttentionCallOptions, direction: "forward" | "backward") => {
    const [q, k] = [floats(random, 1, H, length, D), floats(random, 1, Hkv, length, D)] as const;
    const plans: { bytes: { withoutReuse: number }; text: string }[] = [];
    const given = {
      ...options,
      onPlan: (p: PlanDescription) => plans.push({ bytes: p.bytes, text: String(p) }),
    };
    if (direction === "forward") await engine().attention(q, k, k, given);
    else await engine().attentionBackward(q, k, k, q, given);
    expect(plans.length).toBe(1);
    expect(plans[0]?.text).toMatch(/^program attention\w*: \d+ dispatches in 1 pass/);
    return plans[0]?.bytes.withoutReuse ?? 0;
  };

  it.each(["forward", "backward"] as const)("grows as T·D %s, whatever the mask, and not as T·S", async (direction) => {
    const slopes = { shape: [H], data: Float32Array.of(0.5, 0.25, 0.125, 0.0625) };
    const fused: AttentionCallOptions[] = [
      {},
      { causal: true, window: 20, softcap: 3, alibiSlopes: slopes, sinks: floats(random, H) },
      { causal: true, queryOffsets: [0, 40, 64] },
    ];
    for (const options of fused) {
      const grown = options.queryOffsets ? { ...options, queryOffsets: [0, 160, 256] } : options;
      const [small, large] = [await bytesAt(64, options, direction), await bytesAt(256, grown, direction)];
      expect(large / small).toBeLessThan(4.1);
      // Out, lse, dq, dk, dv, two sums a row, and the copies of a ragged batch: some times q, far from H·T·S.
      expect(large).toBeLessThan(12 * 4 * H * 256 * D);
    }
    // The three kernels, by contrast, hold all weights.
    expect(await bytesAt(256, { selection: "hard" }, direction)).toBeGreaterThan(2 * 4 * H * 256 * 256);
  });
});

await describeOnTiers("a capture of a direct call", (engine, tier) => {
  const random = createRandom(81);
  const dims = { B: 2, H, Hkv, T: 5, S: 7, D, Dv };
  const [q, k, v] = [floats(random, 2, H, 5, D), floats(random, 2, Hkv, 7, D), floats(random, 2, Hkv, 7, Dv)] as const;
  const bias = floats(random, 1, H, 5, 7);
  const kept = {
    shape: [2, 1, 1, 7] as const,
    data: Uint32Array.from({ length: 14 }, (_, i) => (i % 5 === 3 ? 0 : 1)),
  };
  const relative = { buckets: 8, maxDistance: 16, weight: floats(random, 8, H) };
  const shared = { causal: true, queryStart: [2, 0], softcap: 4, window: 5, keyLengths: [7, 3] };

  const check = async (options: AttentionCallOptions, want: Float64Array, starts = [2, 0]) => {
    const capture = { heads: [0, 3], queries: [1, 4], summary: { topKeys: 3 } };
    const plain = await engine().attention(q, k, v, options);
    const { out, captured } = await engine().attention(q, k, v, { ...options, capture });
    assertClose(out.data, plain.out.data, tolerance("f32", "attention"));
    expect(captured.map((c) => [c.sequence, c.heads, c.queries, c.keys])).toEqual([
      [0, [0, 3], [1, 4], 7],
      [1, [0, 3], [1, 4], 7],
    ]);
    for (const { sequence, weights, summary } of captured) {
      [0, 3].forEach((h, s) => {
        [1, 4].forEach((t, r) => {
          const at = (((sequence * H + h) * 5 + t) * 7) as number;
          const row = want.subarray(at, at + 7);
          const got = (weights as Float32Array).subarray((s * 2 + r) * 7, (s * 2 + r + 1) * 7);
          assertClose(got, row, { atol: 1e-5, rtol: 1e-4, label: `weights of ${sequence}, ${h}, ${t}` });
          row.forEach((w, j) => {
            if (w === 0) expect(got[j]).toBe(0);
          });
          const facts = weightSummary(row, (starts[sequence] as number) + t, 3);
          assertClose([summary?.entropy[s * 2 + r] as number], [facts.entropy], { atol: 1e-4, rtol: 1e-3 });
          assertClose([summary?.firstMass[s * 2 + r] as number], [facts.first], { atol: 1e-5, rtol: 1e-3 });
          assertClose([summary?.meanDistance[s * 2 + r] as number], [facts.distance], { atol: 1e-4, rtol: 1e-3 });
          const keys = [...(summary?.topKeys ?? [])].slice((s * 2 + r) * 3, (s * 2 + r + 1) * 3);
          expect(keys.filter((key) => key !== 0xffffffff)).toEqual(facts.topKeys);
        });
      });
    }
  };

  it("gives the exact weights and summaries of heads and rows, with every mask and change of scores", async () => {
    const probs = (options: object) => attention(f64(q), f64(k), f64(v), dims, options).probs;
    const sinks = floats(random, H);
    const slopes = Float32Array.of(0.5, 0.25, 0.125, 0.0625);
    const addends = { bias: { ...bias, shape: [1, H, 5, 7] as const }, keep: kept };
    await check(
      { ...shared, bias, mask: kept, sinks, alibiSlopes: { shape: [H], data: slopes } },
      probs({ ...shared, ...addends, sinks: f64(sinks), alibiSlopes: slopes }),
    );
    await check({}, probs({}), [0, 0]);
    const relativeOptions = { ...relative, bidirectional: false, weight: f64(relative.weight) };
    await check(
      { ...shared, relativeBias: { weight: relative.weight, maxDistance: 16 } },
      probs({ ...shared, relative: relativeOptions }),
    );
    await check(
      { ...shared, bias, mask: kept, relativeBias: { weight: relative.weight, maxDistance: 16 } },
      probs({ ...shared, ...addends, relative: relativeOptions }),
    );
  });

  it("gives the one-hot weights of hard selection, and those before dropout", async () => {
    const { probs } = attention(f64(q), f64(k), f64(v), dims, shared);
    const hard = probs.map((p, at) => {
      const row = probs.subarray(Math.floor(at / 7) * 7, Math.floor(at / 7) * 7 + 7);
      return p > 0 && row.indexOf(Math.max(...row)) === at % 7 ? 1 : 0;
    });
    await check({ ...shared, selection: "hard" }, hard);
    const rng = { shape: [3], data: Uint32Array.of(1, 2, 3) };
    const { captured } = await engine().attention(q, k, v, { ...shared, dropout: { rate: 0.5, rng }, capture: true });
    assertClose(captured[1]?.weights as Float32Array, probs.subarray(probs.length / 2), { atol: 1e-5, rtol: 1e-4 });
  });

  it("gives those of each sequence of a ragged batch, and of tensors on the GPU", async () => {
    const [rq, rk, rv] = [
      floats(random, 1, H, T, D),
      floats(random, 1, Hkv, S, D),
      floats(random, 1, Hkv, S, D),
    ] as const;
    const ragged = { H, Hkv, T, S, D, Dv: D, ...OFFSETS };
    const { sequences } = attentionRagged(f64(rq), f64(rk), f64(rv), ragged, { causal: true });
    const result = await engine().attention(rq, rk, rv, { ...OFFSETS, causal: true, as: "tensor", capture: true });
    expect(result.out).toBeInstanceOf(Tensor);
    result.out.dispose();
    expect(result.captured.map((c) => [c.sequence, c.queries.length, c.keys])).toEqual([
      [0, 5, 7],
      [1, 0, 2],
      [2, 1, 1],
      [3, 12, 13],
    ]);
    for (const b of [0, 3]) {
      const close = { atol: 1e-5, rtol: 1e-4, label: `sequence ${b}` };
      assertClose(result.captured[b]?.weights as Float32Array, sequences[b]!.probs, close);
    }
    expect([...(result.captured[2]?.weights ?? [])]).toEqual([0, 0, 0, 0]);
  });

  it.skipIf(tier !== "core")("costs nothing where it is not asked for: no dispatch, no byte", async () => {
    const { device, programs } = engine();
    const cost = async (options: AttentionCallOptions) => {
      programs.clear();
      await device.idle();
      const before = { bytes: device.bytesInUse, buffers: device.buffersCreated };
      let kernels: readonly string[] = [];
      await engine().attention(q, k, v, { ...options, onKernels: (ran) => (kernels = ran) });
      return { kernels, bytes: device.bytesInUse - before.bytes, buffers: device.buffersCreated - before.buffers };
    };
    const [without, undefinedOne, withOne] = [
      await cost({}),
      await cost({ capture: undefined }),
      await cost({ capture: true }),
    ];
    expect(undefinedOne).toEqual(without);
    expect(without.kernels.filter((kernel) => kernel.includes("capture"))).toEqual([]);
    expect(withOne.kernels.length).toBe(without.kernels.length + 1);
    expect(withOne.bytes).toBeGreaterThan(without.bytes);
  });

  it.skipIf(tier !== "core")("refuses what there is not", async () => {
    const refused = async (capture: unknown, message: RegExp) => {
      const options = { capture } as unknown as AttentionCallOptions;
      await expect(engine().attention(q, k, v, options)).rejects.toMatchObject({
        code: "USAGE",
        message: expect.stringMatching(message),
      });
    };
    await refused({ heads: [4] }, /^attention: capture\.heads must be whole numbers from 0 to 3; got 4\./);
    await refused({ queries: 2 }, /^attention: capture\.queries must be whole numbers/);
    await refused({ layers: [0] }, /capture is true, or has heads, queries, weights, summary; got a field "layers"/);
    await refused({ weights: false }, /asks for neither/);
    await refused({ summary: { topKeys: 65 } }, /topKeys must be from 1 to 64; got 65/);
    await refused("all", /capture must be true/);
    await expect(engine().attentionBackward(q, k, v, q, { capture: true })).rejects.toMatchObject({
      code: "UNSUPPORTED",
    });
  });
});
