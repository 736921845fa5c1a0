import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import type { AttentionStep } from "../../src/tasks/attention_watch.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";

const WEIGHTS = { atol: 1e-5, rtol: 0 };
const GREEDY = { greedy: true, maxTokens: 6 } as const;

function prompt(): number[] {
  return (readGolden("llama_gqa")[1] as { ids: number[] }).ids;
}

/** Holds each step's weights against those of a full pass over all ids. */
async function compare(
  model: TextModel,
  ids: readonly number[],
  steps: readonly AttentionStep[],
  close = WEIGHTS,
): Promise<void> {
  const full = await model.run(ids, { attention: true, logits: false });
  for (const { position, token, layers } of steps) {
    expect(token).toBe(ids[position]);
    for (const { layer, heads, queries, keys, weights = [] } of layers) {
      expect([[...queries], keys]).toEqual([[position], position + 1]);
      const all = full.attention[layer]?.weights as Float32Array;
      const T = ids.length;
      const want = heads.flatMap((h) => [...all.subarray((h * T + position) * T, (h * T + position) * T + keys)]);
      assertClose(weights, want, { ...close, label: `layer ${layer}, position ${position}` });
    }
  }
}

await describeOnTiers("attention of a generation", (engine) => {
  it("is that of a full pass, step by step, in every layer and head", async () => {
    const model = await engine().load(goldenPath("llama_gqa"));
    const { ids, attention = [] } = await model.generate(prompt(), { ...GREEDY, attention: {} }).result;
    expect(attention.map(({ position }) => position)).toEqual([0, 1, 2, 3, 4, 5].map((i) => prompt().length - 1 + i));
    await compare(model, [...ids.prompt, ...ids.generated], attention);
    await model.dispose();
  });
});

describe("attention of a generation", () => {
  let engine: Engine;
  let model: TextModel;
  beforeAll(async () => {
    engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    model = await engine.load(goldenPath("llama_gqa"));
  });
  afterAll(async () => {
    await engine?.dispose();
    expect(engine?.device.buffersInUse).toBe(0);
  });

  it("costs nothing when it is not asked for: no dispatch, no buffer, no byte, before and after one that asks", async () => {
    const held = () => ({ buffers: engine.device.buffersInUse, bytes: engine.device.bytesInUse });
    await model.generate(prompt(), GREEDY).result;
    const plain = { ...held(), plan: String(await model.describe()) };
    expect(plain.plan).not.toContain("head_weights");
    let watched = plain.bytes;
    const watch = () => {
      watched = Math.max(watched, engine.device.bytesInUse);
    };
    await model.generate(prompt(), { ...GREEDY, attention: { summary: true, onStep: watch } }).result;
    expect(watched).toBeGreaterThan(plain.bytes);
    expect({ ...held(), plan: String(await model.describe()) }).toEqual(plain);
    await model.run(prompt(), { attention: true, capture: ["norm"] });
    await model.generate(prompt(), GREEDY).result;
    expect({ ...held(), plan: String(await model.describe()) }).toEqual(plain);
  });

  it("comes through a callback with chosen layers, heads and summaries, and leaves the tokens as they are", async () => {
    const steps: AttentionStep[] = [];
    const attention = { layers: [1], heads: [2], summary: { topKeys: 2 }, onStep: (s: AttentionStep) => steps.push(s) };
    const watched = await model.generate(prompt(), { ...GREEDY, attention }).result;
    const plain = await model.generate(prompt(), GREEDY).result;
    expect(watched.ids).toEqual(plain.ids);
    expect([watched.attention, plain.attention]).toEqual([undefined, undefined]);
    expect(steps).toHaveLength(GREEDY.maxTokens);
    await compare(model, [...plain.ids.prompt, ...plain.ids.generated], steps);
    for (const { layers } of steps) {
      const [{ weights, summary }] = layers as [AttentionStep["layers"][number]];
      const sorted = [...(weights as Float32Array)].sort((a, b) => b - a);
      expect([...(summary?.topWeights ?? [])]).toEqual(sorted.slice(0, 2));
      expect(weights?.[summary?.topKeys[0] as number]).toBe(sorted[0]);
      expect(summary?.firstMass[0]).toBe(weights?.[0]);
    }
  });

  it("is each its own in a batch of different requests, and none for those who did not ask", async () => {
    const other = prompt().slice(3, 20);
    const [a, b, c] = await Promise.all([
      model.generate(prompt(), { ...GREEDY, attention: { layers: [0], heads: [1, 3] } }).result,
      model.generate(other, { ...GREEDY, attention: { layers: [1], heads: [0] } }).result,
      model.generate(other, GREEDY).result,
    ]);
    expect([a.attention?.length, b.attention?.length, c.attention]).toEqual([6, 6, undefined]);
    for (const { ids, attention = [] } of [a, b]) await compare(model, [...ids.prompt, ...ids.generated], attention);
    expect(a.attention?.[0]?.layers.map(({ layer, heads }) => [layer, heads])).toEqual([[0, [1, 3]]]);
    expect(b.ids.generated).toEqual(c.ids.generated);
  });

  it("keeps to the window of the model, and to a cache in f16", async () => {
    const { ids: long } = readGolden("mistral")[1] as { ids: number[] };
    const windowed = await engine.load(goldenPath("mistral"));
    const { ids, attention = [] } = await windowed.generate(long, { ...GREEDY, attention: {} }).result;
    await compare(windowed, [...ids.prompt, ...ids.generated], attention);
    expect(attention[0]?.layers[0]?.weights?.[0]).toBe(0);
    await windowed.dispose();
    const half = await engine.load(goldenPath("llama_gqa"), { cacheDtype: "f16" });
    const { ids: all, attention: seen = [] } = await half.generate(prompt(), { ...GREEDY, attention: {} }).result;
    await compare(half, [...all.prompt, ...all.generated], seen, { atol: 2e-3, rtol: 1e-2 });
    await half.dispose();
  });

  it("ends the generation with what its callback throws, and no other, and frees everything", async () => {
    await Promise.all([model.generate(prompt(), GREEDY).result, model.generate(prompt(), GREEDY).result]);
    const before = engine.device.bytesInUse;
    const onStep = () => {
      throw new Error("enough");
    };
    const plain = await model.generate(prompt(), GREEDY).result;
    const other = model.generate(prompt(), GREEDY).result;
    const failing = model.generate(prompt(), { ...GREEDY, attention: { onStep } }).result;
    await expect(failing).rejects.toThrow("enough");
    expect((await other).ids).toEqual(plain.ids);
    await engine.device.idle();
    expect(engine.device.bytesInUse).toBe(before);
  });

  it("refuses layers and heads that are not there, at once", () => {
    for (const attention of [{ layers: [9] }, { heads: [4] }, { heads: [] }, { weights: false }]) {
      expect(() => model.generate(prompt(), { attention })).toThrow(expect.objectContaining({ code: "USAGE" }));
    }
  });
});
