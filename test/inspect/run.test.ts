import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CapturedAttention } from "../../src/inspect/attention_request.ts";
import { weightSummary } from "../../src/reference/weight_summary.ts";
import type { RunOptions } from "../../src/inspect/run.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { type AssetArray, assetsPath, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { type GoldenName, goldenPath, readGolden } from "../support/goldens.ts";
import { gpt2Reference, type Gpt2Result, type Gpt2Sizes } from "../support/gpt2_reference.ts";
import { readTestCheckpoint } from "../support/safetensors.ts";
import { tolerance } from "../support/tolerances.ts";

const EXACT = { atol: 0, rtol: 0 };
const WEIGHTS = { atol: 1e-5, rtol: 0 };

/** Rows one after the other. */
function flat(rows: readonly Float32Array[] | undefined): Float32Array {
  if (!rows) throw new Error("no logits came back");
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

/** The weights `[L, H, T, T]` of a run that captured all of them. */
function allWeights(attention: readonly CapturedAttention[]): Float32Array {
  return Float32Array.from(attention.flatMap(({ weights }) => [...(weights as Float32Array)]));
}

/** Opens a golden checkpoint once for `body`; a run that leaves a buffer or a byte fails. */
function withGolden(engine: () => Engine, name: GoldenName, body: (model: () => TextModel) => void): void {
  describe(name, () => {
    let model: TextModel;
    let before: { buffers: number; bytes: number };
    const held = () => ({ buffers: engine().device.buffersInUse, bytes: engine().device.bytesInUse });
    beforeAll(async () => {
      model = await engine().load(goldenPath(name));
      before = held();
    });
    afterAll(async () => {
      const after = held();
      await model?.dispose();
      expect(after).toEqual(before);
    });
    body(() => model);
  });
}

/** The most bytes that the device holds while `body` runs, looked at whenever a buffer is made. */
async function peakOf({ device }: Engine, body: () => Promise<unknown>): Promise<number> {
  let peak = 0;
  const create = device.createBuffer.bind(device);
  device.createBuffer = (...args) => {
    const buffer = create(...args);
    peak = Math.max(peak, device.bytesInUse);
    return buffer;
  };
  await body();
  device.createBuffer = create;
  return peak;
}

await describeOnTiers("model.run", (engine) => {
  withGolden(engine, "gpt2", (model) => {
    const { config, tensors } = readTestCheckpoint(goldenPath("gpt2"));
    const { ids } = readGolden("gpt2")[1] as { ids: number[] };
    let reference: Gpt2Result;
    const expected = (name: string) => reference.values.get(name) as Float64Array;
    beforeAll(() => {
      reference = gpt2Reference(tensors, config as unknown as Gpt2Sizes, ids);
    });

    it("captures values of each kind as the float64 reference has them, and the logits", async () => {
      const names = {
        embedding: "embedding",
        "block.0.attention.qkv": "block.0.qkv",
        "block.1.attention.probs": "block.1.probs",
        "block.1.attention.mixed": "block.1.y",
        "block.1.feed_forward.activation": "block.1.gelu",
        "block.1.output": "block.1.out",
        norm: "ln_f",
      };
      const { values, logits } = await model().run(ids, { capture: Object.keys(names) });
      for (const [ours, theirs] of Object.entries(names)) {
        const value = values[ours];
        if (!value) throw new Error(`no ${ours} came back`);
        assertClose(value.data, expected(theirs), {
          ...tolerance("f32", "attention"),
          label: ours,
          shape: value.shape,
        });
      }
      assertClose(flat(logits), reference.logits, tolerance("f32", "logits"));
    });

    it("switches a head off as if its rows of the output projection were 0", async () => {
      const name = "h.0.attn.c_proj.weight";
      const projection = tensors.get(name);
      if (!projection) throw new Error(`the checkpoint has no ${name}`);
      // [C, C], stored [in, out]: a head's rows are D in a row.
      const size = projection.data.length / (config["n_head"] as number);
      const data = projection.data.slice().fill(0, size, 2 * size);
      const without = new Map(tensors).set(name, { ...projection, data });
      const { logits } = await model().run(ids, { ablate: [{ layer: 0, head: 1 }] });
      const expectedLogits = gpt2Reference(without, config as unknown as Gpt2Sizes, ids).logits;
      assertClose(flat(logits), expectedLogits, tolerance("f32", "logits"));
      expect(() => assertClose(flat(logits), reference.logits, tolerance("f32", "logits"))).toThrow("out of tolerance");
    });

    it("captures every layer, head and query of attention from the saved lse", async () => {
      const { attention, logits } = await model().run(ids, { attention: true, logits: "last" });
      const want = attention.flatMap(({ layer }) => [...expected(`block.${layer}.probs`)]);
      expect(attention).toHaveLength(config["n_layer"] as number);
      assertClose(allWeights(attention), want, WEIGHTS);
      const last = reference.logits.subarray(-model().vocabSize);
      assertClose(flat(logits), last, tolerance("f32", "logits"));
    });
  });
});

describe("taps", () => {
  let opened: Engine;
  beforeAll(async () => {
    opened = await createEngineWith({ gpu: await nodeGpu() }, openSource);
  });
  afterAll(async () => {
    await opened?.dispose();
    expect(opened?.device.buffersInUse).toBe(0);
  });
  it.each(["llama_gqa", "mistral"] as const)(
    "rebuild in %s what the three kernels compute, windows too",
    async (name) => {
      const model = await opened.load(goldenPath(name));
      const { ids } = readGolden(name)[1] as { ids: number[] };
      const { attention } = await model.run(ids, { attention: true, logits: false });
      const capture = attention.map(({ layer }) => `block.${layer}.attention.probs`);
      const { values } = await model.run(ids, { capture, logits: false });
      const probs = Float32Array.from(capture.flatMap((probsName) => [...(values[probsName]?.data ?? [])]));
      assertClose(allWeights(attention), probs, WEIGHTS);
      const first = attention.flatMap(({ summary: _, weights = [], heads }) =>
        heads.map((_head, h) => weights[h * ids.length ** 2 + (ids.length - 1) * ids.length]),
      );
      expect(first.some((w) => w === 0)).toBe(name === "mistral");
      await model.dispose();
    },
  );

  it("capture rows of a long text without holding weights of all of it", async () => {
    const engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    const model = await engine.load(goldenPath("gpt2"));
    const ids = Array.from({ length: model.contextLength }, (_, i) => i % model.vocabSize);
    const held = engine.device.bytesInUse;
    const values = await model.values({ tokens: 1 });
    const heads = values.find(({ name }) => name === "block.0.attention.probs")?.shape[1] as number;
    const run = (options: RunOptions) => peakOf(engine, () => model.run(ids, { logits: false, ...options }));
    const plain = (await run({})) - held;
    const rows = (await run({ attention: { layers: [0], queries: [3, ids.length - 1] } })) - held;
    const square = heads * ids.length ** 2 * 4;
    expect(rows - plain).toBeLessThan(square / 4);
    expect((await run({ attention: { layers: [0] } })) - held).toBeGreaterThan(plain + square / 2);
    await engine.dispose();
  });

  withGolden(
    () => opened,
    "llama_gqa",
    (model) => {
      const { ids } = readGolden("llama_gqa")[1] as { ids: number[] };
      const T = ids.length;

      it("names the values of both families alike", async () => {
        const names = (await model().values({ tokens: 3 })).map(({ name }) => name);
        for (const name of ["norm", "qkv", "q", "k", "v", "scores", "probs", "mixed", "projected", "residual"]) {
          expect(names).toContain(`block.1.attention.${name}`);
        }
        expect(names).toEqual([...new Set(names)]);
        expect(names.at(-1)).toBe("logits");
      });

      it("give chosen layers, heads and rows, and summaries of them", async () => {
        const all = await model().run(ids, { attention: true });
        const chosen = { layers: [1], heads: [3, 0], queries: [7, 39], summary: { topKeys: 3 } };
        const { attention } = await model().run(ids, { attention: chosen, logits: false });
        const [layer] = attention as [CapturedAttention];
        expect([attention.length, layer.layer, layer.heads, layer.queries, layer.keys]).toEqual([
          1,
          1,
          [0, 3],
          [7, 39],
          T,
        ]);
        const full = all.attention[1]?.weights as Float32Array;
        const rows = layer.heads.flatMap((h) =>
          layer.queries.map((t) => full.slice((h * T + t) * T, (h * T + t + 1) * T)),
        );
        assertClose(layer.weights as Float32Array, flat(rows), { ...EXACT, label: "weights" });
        const bare = await model().run(ids, { attention: { ...chosen, weights: false }, logits: false });
        expect(bare.attention[0]?.weights).toBeUndefined();
        expect(bare.attention[0]?.summary).toEqual(layer.summary);
        rows.forEach((row, i) => {
          const want = weightSummary(Float64Array.from(row), layer.queries[i % 2] as number, 3);
          const summary = layer.summary as NonNullable<CapturedAttention["summary"]>;
          const got = [summary.entropy[i], summary.firstMass[i], summary.meanDistance[i]] as number[];
          assertClose(got, [want.entropy, want.first, want.distance], { atol: 1e-4, rtol: 1e-4, label: `row ${i}` });
          expect([...summary.topKeys.subarray(i * 3, i * 3 + 3)]).toEqual(want.topKeys);
        });
      });

      it("change nothing when a value is patched with itself, whole or a row, or scaled by 1", async () => {
        const names = ["block.0.attention.k", "block.1.attention.probs", "block.1.feed_forward.norm", "block.0.output"];
        const plain = await model().run(ids, { capture: names });
        for (const name of names) {
          const value = plain.values[name];
          if (!value) throw new Error(name);
          const again = await model().run(ids, { capture: names, patch: { [name]: value.data } });
          assertClose(flat(again.logits), flat(plain.logits), { ...EXACT, label: name });
          const scaled = await model().run(ids, { capture: names, patch: { [name]: { scale: 1 } } });
          assertClose(flat(scaled.logits), flat(plain.logits), { ...EXACT, label: `${name}, scaled` });
        }
        const output = plain.values["block.0.output"] as { shape: number[]; data: Float32Array };
        const width = output.shape[1] as number;
        const row = { replace: output.data.slice(5 * width, 6 * width), rows: [5] };
        const again = await model().run(ids, { capture: names, patch: { "block.0.output": row } });
        assertClose(flat(again.logits), flat(plain.logits), { ...EXACT, label: "a row" });
      });

      it("carry a value from one run into another: all that follows is the other's", async () => {
        const other = ids.map((id, t) => (t === 3 ? (id + 1) % model().vocabSize : id));
        const name = "block.1.output";
        const [a, b] = [await model().run(ids, { capture: [name] }), await model().run(other, { capture: [name] })];
        expect(flat(a.logits)).not.toEqual(flat(b.logits));
        const carried = await model().run(ids, { patch: { [name]: (b.values[name] as { data: Float32Array }).data } });
        assertClose(flat(carried.logits), flat(b.logits), { atol: 1e-5, rtol: 1e-5 });
      });

      it("switch a head off: the run equals one whose mixed values have zeros there, and its rows are 0", async () => {
        const name = "block.0.attention.mixed";
        const values = await model().values();
        const D = (values.find((v) => v.name === name)?.shape[1] as number) / 4;
        const plain = await model().run(ids, { capture: [name] });
        const mixed = plain.values[name] as { data: Float32Array };
        const zeroed = mixed.data.map((x, i) => (Math.floor(i / D) % 4 === 2 ? 0 : x));
        const off = await model().run(ids, { capture: [name], ablate: [{ layer: 0, head: 2 }] });
        const patched = await model().run(ids, { capture: [name], patch: { [name]: zeroed } });
        assertClose((off.values[name] as { data: Float32Array }).data, zeroed, { ...EXACT, label: "mixed" });
        assertClose(flat(off.logits), flat(patched.logits), { ...EXACT, label: "logits" });
        expect(flat(off.logits)).not.toEqual(flat(plain.logits));
      });

      it("scale and add in this order, to chosen rows alone", async () => {
        const name = "block.0.attention.v";
        const plain = await model().run(ids, { capture: [name], logits: false });
        const { data, shape } = plain.values[name] as { data: Float32Array; shape: number[] };
        const width = shape[1] as number;
        const add = new Float32Array(2 * width).map((_, i) => i);
        const patch = { [name]: { scale: 2, add, rows: [4, 1] } };
        const changed = await model().run(ids, { capture: [name], logits: false, patch });
        const want = data.map((x, i) => {
          const at = [4, 1].indexOf(Math.floor(i / width));
          return at < 0 ? x : 2 * x + (add[at * width + (i % width)] as number);
        });
        assertClose((changed.values[name] as { data: Float32Array }).data, want, { atol: 1e-6, rtol: 1e-6 });
      });

      it.each([
        [
          { capture: ["block.1.atention.prob"] },
          'no value is called "block.1.atention.prob"; near it are "block.1.attention.probs"',
        ],
        [{ capture: ["logits"], logits: false }, 'no value is called "logits"'],
        [
          { patch: { "block.7.output": { scale: 0 } } },
          'no value is called "block.7.output"; near it are "block.0.output"',
        ],
        [{ patch: { norm: new Float32Array(3) } }, 'patch "norm": data must have'],
        [
          { patch: { norm: { scale: 2, rows: [40] } } },
          'patch "norm": rows must be whole numbers from 0 to 39; got 40',
        ],
        [{ patch: { "block.0.attention.probs": { scale: 2, rows: [0] } } }, "rows are those of a value [N, C]"],
        [{ ablate: [{ layer: 0, head: 4 }] }, "layer 0 has heads 0 to 3; got layer 0, head 4"],
        [{ ablate: [{ layer: 9, head: 0 }] }, "the model has no layer 9"],
        [{ attention: { heads: [4] } }, "attention.heads must be whole numbers from 0 to 3; got 4"],
        [{ attention: { queries: [] } }, "attention.queries must be whole numbers from 0 to 39; got none"],
        [{ attention: { weights: false } }, "neither weights nor summary"],
        [{ atention: true }, 'options has no field "atention"'],
      ])("refuse %o", async (options, message) => {
        await expect(model().run(ids, options as object)).rejects.toMatchObject({
          code: "USAGE",
          message: expect.stringContaining(message),
        });
      });

      it("refuse no tokens and more than the context holds, and stop at an abort", async () => {
        await expect(model().run([])).rejects.toMatchObject({ code: "USAGE" });
        await expect(model().run(Array(100_000).fill(1))).rejects.toMatchObject({ code: "LIMIT" });
        await expect(model().run(ids, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
      });
    },
  );
});

interface Story {
  ids: number[];
  logits: AssetArray;
  attention_probs: AssetArray;
}

const ASSET = "models/stories260K";
const root = assetsPath();
if (root) {
  await describeOnTiers("attention of stories260K", (engine) => {
    it("is the published one in every layer and head, fused and through the three kernels", async () => {
      const model = await engine().load(join(root, ASSET));
      for (const { ids, attention_probs, logits } of readJson<Story[]>(join(root, ASSET, "expected.json"))) {
        const { shape } = attention_probs;
        const want = decodeArray(attention_probs);
        const fused = await model.run(ids, { attention: true });
        assertClose(allWeights(fused.attention), want, { ...WEIGHTS, label: "rebuilt", shape });
        assertClose(flat(fused.logits), decodeArray(logits), tolerance("f32", "logits"));
        const capture = fused.attention.map(({ layer }) => `block.${layer}.attention.probs`);
        const { values } = await model.run(ids, { capture, logits: false });
        const probs = Float32Array.from(capture.flatMap((name) => [...(values[name]?.data ?? [])]));
        assertClose(probs, want, { ...WEIGHTS, label: "probs", shape });
      }
      await model.dispose();
    });
  });
} else {
  describeWithAssets("attention of stories260K", ASSET, () => {});
}
