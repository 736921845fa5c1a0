import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { TIERS } from "../../src/gpu/tiers.ts";
import type { ArrayTensor } from "../../src/program/direct.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import { describeOnTiers, machineTiers } from "../support/devices.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";
import { GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { createRandom } from "../support/random.ts";

const random = createRandom(91);
const drawn = (...shape: number[]): ArrayTensor<Float32Array> => ({
  shape,
  data: Float32Array.from(random.normals(shape.reduce((a, b) => a * b, 1))),
});

/** Items [from, to) of the outermost axis. */
function outer({ shape, data }: ArrayTensor, from: number, to: number): ArrayTensor {
  const each = data.length / (shape[0] as number);
  return { shape: [to - from, ...shape.slice(1)], data: data.slice(from * each, to * each) };
}

/** Query rows [from, to) of `[1, H, T, D]`. */
function queries({ shape, data }: ArrayTensor, from: number, to: number): ArrayTensor {
  const [, H, T, D] = shape as [number, number, number, number];
  const rows = Array.from({ length: H }, (_, h) => [...data.slice((h * T + from) * D, (h * T + to) * D)]).flat();
  return { shape: [1, H, to - from, D], data: Float32Array.from(rows) };
}

/** Tokens of a, then those of b: `[1, H, N, D]`. */
function joined(a: ArrayTensor, b: ArrayTensor): ArrayTensor {
  const [, H, N, D] = a.shape as [number, number, number, number];
  const M = b.shape[2] as number;
  const rows = Array.from({ length: H }, (_, h) => [
    ...a.data.slice(h * N * D, (h + 1) * N * D),
    ...b.data.slice(h * M * D, (h + 1) * M * D),
  ]).flat();
  return { shape: [1, H, N + M, D], data: Float32Array.from(rows) };
}

const bits = ({ data }: ArrayTensor) => [...new Uint32Array(Float32Array.from(data as Float32Array).buffer)];

await describeOnTiers("the same call 20 times", (engine) => {
  it("gives the same bits: attention forward, backward, decode and ragged, with dropout, matmul, linear", async () => {
    const [q, k, v] = [drawn(2, 4, 33, 16), drawn(2, 2, 40, 16), drawn(2, 2, 40, 16)] as const;
    const [one, keys] = [drawn(1, 4, 1, 16), drawn(1, 2, 1300, 16)] as const;
    const [a, b, weight] = [drawn(2, 20, 48), drawn(2, 48, 36), drawn(36, 48)] as const;
    const [sinks, drawnBias] = [drawn(4), drawn(1, 4, 1, 40)] as const;
    const [tokens, offsets] = [drawn(1, 4, 33, 16), [0, 5, 5, 6, 33]] as const;
    const ragged = { queryOffsets: offsets, causal: true };
    const dropout = { rate: 0.25, rng: { shape: [3], data: Uint32Array.of(1, 2, 3) } };
    const run = async () => {
      const { out } = await engine().attention(q, k, v, { causal: true, queryStart: 7, sinks });
      const grads = await engine().attentionBackward(q, k, v, q, { causal: true, queryStart: 7, sinks });
      const decode = await engine().attention(one, keys, keys);
      const many = await engine().attention(tokens, tokens, tokens, ragged);
      const manyBack = await engine().attentionBackward(tokens, tokens, tokens, tokens, ragged);
      const dropped = await engine().attentionBackward(q, k, v, q, { dropout, bias: drawnBias, selection: "hard" });
      const product = await engine().matmul(a, b);
      const rows = await engine().linear({ shape: [40, 48], data: a.data }, weight);
      return [
        ...[out, grads.dq, grads.dk, grads.dv, grads.dsinks as ArrayTensor, decode.out, product, rows],
        ...[many.out, manyBack.dq, manyBack.dk, manyBack.dv],
        ...[dropped.dq, dropped.dk, dropped.dv, dropped.dbias as ArrayTensor],
      ].map(bits);
    };
    const first = await run();
    for (let i = 1; i < 20; i++) expect(await run()).toEqual(first);
  });
});

const available = await machineTiers();
for (const tier of TIERS) {
  describe.skipIf(!available.includes(tier))(`with deterministic, on tier ${tier},`, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await createEngineWith({ gpu: await nodeGpu(), tier, deterministic: true }, openSource);
    });
    afterAll(async () => {
      await engine?.dispose();
      expect(engine?.device.buffersInUse ?? 0).toBe(0);
    });

    /** Runs a call on all rows and on parts of them, and compares the bits. */
    const holds = async (x: ArrayTensor, call: (rows: ArrayTensor) => Promise<ArrayTensor>) => {
      const N = x.shape[0] as number;
      const whole = await call(x);
      for (const [from, to] of [
        [0, 1],
        [N - 1, N],
        [0, 2],
        [1, 4],
        [2, 7],
        [0, 8],
        [3, 12],
        [5, N],
      ] as const) {
        expect(bits(await call(outer(x, from, to)))).toEqual(bits(outer(whole, from, to)));
      }
    };

    it("a row of linear, matmul, norms and softmax is the same in any batch", async () => {
      const [x, weight, bias, gain] = [drawn(41, 96), drawn(52, 96), drawn(52), drawn(96)] as const;
      await holds(x, (rows) => engine.linear(rows, weight, { bias }));
      await holds(x, (rows) => engine.linear(rows, { shape: [52, 96], data: new Uint16Array(52 * 96).fill(0x3555) }));
      const transposed = drawn(96, 50);
      await holds(x, (rows) => engine.matmul(rows, transposed));
      await holds(x, (rows) => engine.matmul(rows, weight, { layout: "NT" }));
      await holds(x, (rows) => engine.rmsNorm(rows, gain));
      await holds(x, (rows) => engine.layerNorm(rows, gain));
      await holds(x, (rows) => engine.softmax(rows));
      const odd = drawn(41, 51);
      await holds(odd, (rows) => engine.linear(rows, { shape: [20, 51], data: weight.data.slice(0, 1020) }));
    });

    it("a sequence of attention, and a query of it, is the same in any batch", async () => {
      const [q, k, v] = [drawn(13, 4, 5, 16), drawn(13, 2, 9, 16), drawn(13, 2, 9, 16)] as const;
      const whole = (await engine.attention(q, k, v, { causal: true, queryStart: 4, softcap: 3 })).out;
      for (const [from, to] of [
        [0, 1],
        [4, 6],
        [6, 13],
      ] as const) {
        const [a, b, c] = [outer(q, from, to), outer(k, from, to), outer(v, from, to)];
        const { out } = await engine.attention(a, b, c, { causal: true, queryStart: 4, softcap: 3 });
        expect(bits(out)).toEqual(bits(outer(whole, from, to)));
      }
      const [long, keys] = [drawn(1, 4, 77, 16), drawn(1, 2, 90, 16)] as const;
      for (const mask of [{}, { causal: true }, { causal: true, window: 21 }, { window: { left: 3, right: 40 } }]) {
        const all = (await engine.attention(long, keys, keys, { ...mask, queryStart: 5 })).out;
        const { dq } = await engine.attentionBackward(long, keys, keys, long, { ...mask, queryStart: 5 });
        for (const [from, to] of [
          [0, 1],
          [40, 41],
          [75, 77],
          [9, 50],
        ] as const) {
          const part = queries(long, from, to);
          const options = { ...mask, queryStart: 5 + from };
          const { out } = await engine.attention(part, keys, keys, options);
          expect(bits(out)).toEqual(bits(queries(all, from, to)));
          const grads = await engine.attentionBackward(part, keys, keys, part, options);
          expect(bits(grads.dq)).toEqual(bits(queries(dq, from, to)));
        }
      }
    });

    it("a sequence of a ragged batch, and one that decodes over many keys, is the same in any batch, gradients too", async () => {
      const [q, k, dout] = [drawn(1, 4, 40, 16), drawn(1, 2, 40, 16), drawn(1, 4, 40, 16)] as const;
      const offsets = [0, 1, 9, 9, 26, 40];
      const options = { causal: true, window: 11 };
      const whole = await engine.attention(q, k, k, { ...options, queryOffsets: offsets });
      const grads = await engine.attentionBackward(q, k, k, dout, { ...options, queryOffsets: offsets });
      for (const [from, to] of [
        [0, 1],
        [1, 9],
        [9, 26],
        [26, 40],
      ] as const) {
        const [a, b, d] = [queries(q, from, to), queries(k, from, to), queries(dout, from, to)];
        const alone = await engine.attention(a, b, b, options);
        expect(bits(alone.out)).toEqual(bits(queries(whole.out, from, to)));
        // Beside another sequence, in the other order.
        const [c, e] = [queries(q, 1, 9), queries(k, 1, 9)];
        const beside = await engine.attention(joined(a, c), joined(b, e), joined(b, e), {
          ...options,
          queryOffsets: [0, to - from, to - from + 8],
        });
        expect(bits(queries(beside.out, 0, to - from))).toEqual(bits(alone.out));
        const back = await engine.attentionBackward(a, b, b, d, options);
        for (const name of ["dq", "dk", "dv"] as const) {
          expect(bits(back[name])).toEqual(bits(queries(grads[name], from, to)));
        }
      }
      const [ones, keys] = [drawn(5, 4, 1, 16), drawn(5, 2, 1300, 16)] as const;
      const lengths = [1300, 1, 700, 1025, 40];
      const { out } = await engine.attention(ones, keys, keys, { keyLengths: lengths });
      for (const [from, to] of [
        [0, 1],
        [1, 3],
        [4, 5],
      ] as const) {
        const part = await engine.attention(outer(ones, from, to), outer(keys, from, to), outer(keys, from, to), {
          keyLengths: lengths.slice(from, to),
        });
        expect(bits(part.out)).toEqual(bits(outer(out, from, to)));
      }
    });

    it("the gradients of a sequence are the same in any batch", async () => {
      const [q, k, dout] = [drawn(5, 4, 19, 16), drawn(5, 2, 30, 16), drawn(5, 4, 19, 16)] as const;
      const options = { causal: true, queryStart: 11, softcap: 3 };
      const all = await engine.attentionBackward(q, k, k, dout, options);
      for (const [from, to] of [
        [0, 1],
        [1, 3],
        [2, 5],
      ] as const) {
        const [a, b, d] = [outer(q, from, to), outer(k, from, to), outer(dout, from, to)];
        const part = await engine.attentionBackward(a, b, b, d, options);
        for (const name of ["dq", "dk", "dv"] as const)
          expect(bits(part[name])).toEqual(bits(outer(all[name], from, to)));
      }
    });

    it.skipIf(!GPU_VARIANT_TIERS.includes(tier))("the kernels of GPUs hold to it too", async () => {
      engine.programs.clear();
      await withGpuVariants(engine.device, async () => {
        const [x, weight] = [drawn(41, 96), drawn(52, 96)] as const;
        await holds(x, (rows) => engine.linear(rows, weight));
        const [long, keys] = [drawn(1, 4, 77, 16), drawn(1, 2, 90, 16)] as const;
        const options = { causal: true, window: 21 };
        const all = (await engine.attention(long, keys, keys, { ...options, queryStart: 5 })).out;
        for (const from of [0, 40, 70]) {
          const part = queries(long, from, from + 1);
          const { out } = await engine.attention(part, keys, keys, { ...options, queryStart: 5 + from });
          expect(bits(out)).toEqual(bits(queries(all, from, from + 1)));
        }
      });
      engine.programs.clear();
    });

    it("a generation is the same alone and beside others, however its prompt came in", async () => {
      const model = await engine.load(goldenPath("llama_gqa"));
      const prompt = (readGolden("llama_gqa")[1] as { ids: number[] }).ids;
      const options = { temperature: 1, seed: 3, maxTokens: 8, attention: {} } as const;
      const seen = async (result: ReturnType<typeof model.generate>["result"]) => {
        const { ids, attention = [] } = await result;
        return {
          ids: ids.generated,
          weights: attention.map(({ layers }) => layers.map((l) => [...(l.weights ?? [])])),
        };
      };
      const alone = await seen(model.generate(prompt, options).result);
      for (const others of [1, 4, 8]) {
        const beside = Array.from({ length: others }, (_, i) =>
          seen(model.generate(prompt.slice(i + 1), { ...options, seed: i }).result),
        );
        expect(await seen(model.generate(prompt, options).result)).toEqual(alone);
        await Promise.all(beside);
      }
      const session = model.session();
      for (const [from, to] of [
        [0, 3],
        [3, 20],
        [20, prompt.length],
      ] as const) {
        await session.append(prompt.slice(from, to));
      }
      expect(await seen(session.generate(undefined, options).result)).toEqual(alone);
      await session.dispose();
      const logits = await model.logits(prompt);
      const short = await model.logits(prompt.slice(0, 5));
      expect(short.map((row) => [...row])).toEqual(logits.slice(0, 5).map((row) => [...row]));
      await model.dispose();
    });
  });
}

describe("deterministic", () => {
  it("chooses one kernel for any number of rows, also for one call, and is refused where it is no boolean", async () => {
    const engine = await createEngineWith({ gpu: await nodeGpu(), tier: "core" }, openSource);
    const weight = drawn(16, 32);
    const kernelOf = async (rows: number, deterministic?: boolean) => {
      let ran: readonly string[] = [];
      await engine.linear(drawn(rows, 32), weight, { deterministic, onKernels: (kernels) => (ran = kernels) });
      return ran;
    };
    expect(await kernelOf(1)).not.toEqual(await kernelOf(30));
    expect(await kernelOf(1, true)).toEqual(await kernelOf(30, true));
    const bad = { deterministic: 1 as unknown as boolean };
    await expect(engine.softmax(weight, bad)).rejects.toMatchObject({ code: "USAGE" });
    await engine.dispose();
    await expect(createEngineWith({ gpu: await nodeGpu(), ...bad }, openSource)).rejects.toMatchObject({
      code: "USAGE",
    });
  });
});
