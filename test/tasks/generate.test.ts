import { mkdtempSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { createRandom, testSeed } from "../support/random.ts";

const WRITER = new URL("../fixtures/write_tiny_llama.mjs", import.meta.url).pathname;
const LONG = process.env["HEED_LONG"] === "1";

let engine: Engine;
let model: TextModel;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "heed-tiny-"));
  execFileSync(process.execPath, [WRITER, folder]);
  engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
  model = await engine.load(folder);
});
afterAll(async () => {
  await engine?.dispose();
  expect(engine?.device.buffersInUse).toBe(0);
  rmSync(folder, { recursive: true });
});

const greedy = { greedy: true, maxTokens: 24 } as const;

it("streams pieces that add up to the text, and reports what it did", async () => {
  const generation = model.generate("Once upon a time", greedy);
  const pieces: string[] = [];
  for await (const piece of generation) pieces.push(piece);
  const { text, ids, finish, stats } = await generation.result;
  expect(pieces.join("")).toBe(text);
  expect(finish).toBe("length");
  expect(ids.generated).toHaveLength(24);
  expect(stats.generatedTokens).toBe(24);
  expect(stats.promptTokens).toBe(ids.prompt.length);
  expect(stats.timeToFirstTokenMs).toBeGreaterThan(0);
  expect(stats.tokensPerSecond).toBeGreaterThan(0);
  expect(stats.peakGpuBytes).toBeGreaterThanOrEqual(engine.device.bytesInUse);
});

it("draws the same tokens from the same seed, alone and beside others, and other tokens from another seed", async () => {
  const draw = (seed: number) => model.generate("Hello", { temperature: 1, maxTokens: 20, seed }).result;
  const alone = await draw(7);
  const [again, other] = await Promise.all([draw(7), draw(8), draw(9)]);
  expect(again?.ids.generated).toEqual(alone.ids.generated);
  expect(other?.ids.generated).not.toEqual(alone.ids.generated);
  expect(alone.seed).toBe(7);
});

it("keeps to top-k: 1 is greedy whatever the temperature", async () => {
  const best = await model.generate("Hello", greedy).result;
  const drawn = await model.generate("Hello", { temperature: 5, topK: 1, maxTokens: 24, seed: 1 }).result;
  expect(drawn.ids.generated).toEqual(best.ids.generated);
});

it("ends before a stop string, wherever the pieces divide it", async () => {
  const { text } = await model.generate("Hello", greedy).result;
  const stop = text.slice(6, 9);
  const stopped = await model.generate("Hello", { ...greedy, stop }).result;
  expect(stopped.finish).toBe("stop");
  expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)));
});

it("continues a session as if it had been one prompt; rewind and fork leave no trace", async () => {
  const whole = await model.generate([5, 6, 7, 8, 9, 10], greedy).result;
  using session = model.session();
  await session.append([5, 6, 7]);
  await session.append([8, 9, 10, 11, 12]);
  session.rewind(6);
  using twin = session.fork();
  const [a, b] = await Promise.all([session.generate([], greedy).result, twin.generate([], greedy).result]);
  expect(a.ids.generated).toEqual(whole.ids.generated);
  expect(b.ids.generated).toEqual(whole.ids.generated);
  session.rewind(6);
  expect((await session.generate([], greedy).result).ids.generated).toEqual(whole.ids.generated);
});

it("forks mid-page and full pages without one session changing the other's", async () => {
  const prompt = Array.from({ length: 45 }, (_, i) => (i * 7) % 60);
  using session = model.session();
  await session.append(prompt);
  using twin = session.fork();
  const changed = await twin.generate([1, 2, 3], greedy).result;
  const plain = await session.generate([], greedy).result;
  expect(plain.ids.generated).toEqual((await model.generate(prompt, greedy).result).ids.generated);
  expect(changed.ids.generated).toEqual((await model.generate([...prompt, 1, 2, 3], greedy).result).ids.generated);
});

it("decodes a ragged batch as it decodes each alone", async () => {
  const prompts = [1, 3, 17, 33, 50].map((n) => Array.from({ length: n }, (_, i) => (i * 11 + n) % 60));
  const together = await Promise.all(prompts.map((p) => model.generate(p, greedy).result));
  for (const [i, p] of prompts.entries()) {
    expect(together[i]?.ids.generated).toEqual((await model.generate(p, greedy).result).ids.generated);
  }
});

it("ends with finish abort when its signal fires, and frees everything when the reader leaves", async () => {
  const before = engine.device.buffersInUse;
  const controller = new AbortController();
  const generation = model.generate("Hello", { greedy: true, maxTokens: 200, signal: controller.signal });
  let pieces = 0;
  for await (const _ of generation) if (++pieces === 3) controller.abort();
  const { finish, ids } = await generation.result;
  expect(finish).toBe("abort");
  expect(ids.generated.length).toBeLessThan(60);
  for await (const _ of model.generate("Hello", { greedy: true, maxTokens: 200 })) break;
  expect(engine.device.buffersInUse).toBe(before);
});

it(`leaves buffers and memory flat over ${LONG ? 500 : 60} generations and ${LONG ? 1000 : 20} aborts`, async () => {
  const random = createRandom(testSeed("soak", 4));
  const generate = () => model.generate("Hello", { temperature: 1, maxTokens: 4 }).result;
  // The driver's own pools grow for some hundred generations, then stay.
  for (let i = 0; i < (LONG ? 600 : 10); i++) await generate();
  await model.generate("Hello, this is a prompt", { greedy: true, maxTokens: 64 }).result;
  const before = {
    buffers: engine.device.buffersInUse,
    bytes: engine.device.bytesInUse,
    created: engine.device.buffersCreated,
  };
  const rssBefore = process.memoryUsage().rss;
  for (let i = 0; i < (LONG ? 500 : 60); i++) await generate();
  for (let i = 0; i < (LONG ? 1000 : 20); i++) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), random.uniform() * 30);
    const { finish } = await model.generate("Hello, this is a prompt", {
      greedy: true,
      maxTokens: 64,
      signal: controller.signal,
    }).result;
    expect(["abort", "length"]).toContain(finish);
  }
  expect({
    buffers: engine.device.buffersInUse,
    bytes: engine.device.bytesInUse,
    created: engine.device.buffersCreated,
  }).toEqual(before);
  expect(process.memoryUsage().rss).toBeLessThan(rssBefore * 1.05 + (32 << 20));
}, 600_000);

it.each([
  ["a misspelt option", { maxTokenz: 3 }, /maxTokenz/],
  ["a temperature below 0", { temperature: -1 }, /temperature/],
  ["greedy with a temperature", { greedy: true, temperature: 1 }, /greedy takes no temperature/],
  ["top-p of 0", { topP: 0 }, /topP/],
  ["an empty stop string", { stop: [""] }, /stop/],
])("refuses %s", (_, options, message) => {
  expect(() => model.generate("Hello", options as object)).toThrowError(message);
});

it("refuses unknown ids, an empty prompt and one that fills the context, with nothing left allocated", async () => {
  const before = engine.device.buffersInUse;
  const code = (wanted: string) => (e: unknown) => isHeedError(e) && e.code === wanted;
  expect(() => model.generate([1_000_000])).toThrowError(/token ids must be whole numbers/);
  expect(() => model.generate([])).toThrowError(/at least one token/);
  expect(() => model.generate(Array.from({ length: model.contextLength }, () => 1))).toThrowError(/context/);
  await expect(model.logits(Array.from({ length: model.contextLength + 1 }, () => 1))).rejects.toSatisfy(code("LIMIT"));
  expect(engine.device.buffersInUse).toBe(before);
});

it("says DISPOSED after it was disposed", async () => {
  const other = await engine.load(folder);
  await other.dispose();
  await expect(other.generate("Hello").result).rejects.toMatchObject({ code: "DISPOSED" });
  await expect(other.logits([1])).rejects.toMatchObject({ code: "DISPOSED" });
});

it("says LIMIT when every page of the cache is in use, and works again when some are free", async () => {
  const small = await engine.load(folder, { cacheTokens: 64, maxSequences: 3 });
  const sessions = [small.session(), small.session()];
  await sessions[0]?.append(Array.from({ length: 40 }, () => 1));
  await expect(sessions[1]?.append(Array.from({ length: 40 }, () => 1))).rejects.toMatchObject({ code: "LIMIT" });
  sessions[0]?.dispose();
  await sessions[1]?.append(Array.from({ length: 40 }, () => 1));
  for (const s of sessions) s.dispose();
  await small.dispose();
});

it("ends a running generation with DISPOSED when its model is disposed", async () => {
  const other = await engine.load(folder);
  const running = other.generate("Hello", { greedy: true, maxTokens: 200 });
  const failed = expect(running.result).rejects.toMatchObject({ code: "DISPOSED" });
  await new Promise((r) => setTimeout(r, 20));
  await other.dispose();
  await failed;
});

it("profiles a step without disturbing what is generated after it", async () => {
  const before = await model.generate("Hello", greedy).result;
  const times = await model.profile({ keys: 40 });
  expect(times.length).toBeGreaterThan(5);
  expect(times.every((t) => t.elapsedMs >= 0)).toBe(true);
  const after = await model.generate("Hello", greedy).result;
  expect(after.ids.generated).toEqual(before.ids.generated);
});

it("keeps a session usable after a slot could not be had", async () => {
  const small = await engine.load(folder, { maxSequences: 1 });
  const [first, second] = [small.session(), small.session()];
  await first.append([1, 2, 3]);
  await expect(second.generate([1, 2], greedy).result).rejects.toMatchObject({ code: "LIMIT" });
  first.dispose();
  expect((await second.generate([1, 2], { greedy: true, maxTokens: 3 }).result).ids.generated).toHaveLength(3);
  await small.dispose();
});

it("computes logits and appends at the same time as others without mixing them", async () => {
  const ids = (n: number, seed: number) => Array.from({ length: n }, (_, i) => (i * 13 + seed) % 200);
  const [a, b] = [ids(70, 1), ids(90, 5)];
  const alone = [await model.logits(a), await model.logits(b)];
  const together = await Promise.all([model.logits(a), model.logits(b)]);
  expect(together).toEqual(alone);
  const expected = [await model.generate(a, greedy).result, await model.generate(b, greedy).result];
  using first = model.session();
  using second = model.session();
  await Promise.all([first.append(a), second.append(b)]);
  const results = await Promise.all([first.generate([], greedy).result, second.generate([], greedy).result]);
  expect(results.map((r) => r.ids.generated)).toEqual(expected.map((r) => r.ids.generated));
});

it("runs more generations than a step has rows, in turns", async () => {
  const many = await engine.load(folder, { maxSequences: 40, cacheTokens: 40 * 64 });
  const results = await Promise.all(
    Array.from({ length: 36 }, (_, i) => many.generate([i + 1, i + 2], { greedy: true, maxTokens: 4 }).result),
  );
  for (const [i, r] of results.entries()) {
    if (i % 12 !== 0) continue;
    expect(r.ids.generated).toEqual(
      (await many.generate([i + 1, i + 2], { greedy: true, maxTokens: 4 }).result).ids.generated,
    );
  }
  await many.dispose();
});

it("lets a prompt wait for pages that others hold, and fails only what cannot fit", async () => {
  const small = await engine.load(folder, { cacheTokens: 128, maxSequences: 8 });
  const prompt = (n: number) => Array.from({ length: n }, (_, i) => (i % 50) + 1);
  const results = await Promise.all(
    [60, 61, 62, 63].map((n) => small.generate(prompt(n), { greedy: true, maxTokens: 3 }).result),
  );
  expect(results.map((r) => r.ids.generated.length)).toEqual([3, 3, 3, 3]);
  await small.dispose();
});

it("starts a generation from what the session holds then, and refuses a second reader", async () => {
  using session = model.session();
  const first = session.generate([1, 2, 3], greedy);
  const second = session.generate([4, 5], greedy);
  const a = await first.result;
  const b = await second.result;
  expect(b.ids.prompt).toEqual([1, 2, 3, ...a.ids.generated, 4, 5]);
  const generation = model.generate("Hello", { greedy: true, maxTokens: 3 });
  for await (const _ of generation) break;
  await expect(generation[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "USAGE" });
});

it("gives back a session's pages when it is disposed while it appends", async () => {
  const small = await engine.load(folder, { cacheTokens: 64, maxSequences: 1 });
  const session = small.session();
  const appending = session.append(Array.from({ length: 40 }, () => 3));
  session.dispose();
  await appending;
  expect((await small.generate([1], { greedy: true, maxTokens: 2 }).result).ids.generated).toHaveLength(2);
  await small.dispose();
  await expect(async () => small.session().append([1])).rejects.toMatchObject({ code: "DISPOSED" });
});

it("refuses options that do not exist and prompts that are none, by typed errors", async () => {
  const gpu = await nodeGpu();
  await expect(createEngineWith({ gpu, foo: 1 } as object, openSource)).rejects.toMatchObject({ code: "USAGE" });
  await expect(engine.load(folder, { wibble: 1 } as object)).rejects.toThrowError(/no option wibble; there are dtype/);
  await expect(engine.load(5 as unknown as string)).rejects.toMatchObject({ code: "USAGE" });
  expect(() => model.generate(5 as unknown as string)).toThrowError(/text or an array of token ids; got number/);
  using session = model.session();
  expect(() => session.generate({ maxTokens: 3 } as unknown as string)).toThrowError(/Options come second/);
});

it("takes no token from the GPU once its signal has fired", async () => {
  const controller = new AbortController();
  const generation = model.generate("Hello", { greedy: true, maxTokens: 200, signal: controller.signal });
  let taken = 0;
  for await (const _ of generation) {
    if (++taken === 5) controller.abort();
  }
  const { ids, finish } = await generation.result;
  expect(finish).toBe("abort");
  // The reader of the fifth piece may have two whole bursts before it: on a busy machine the second is there when the first is given
  // out, before the reader has had its turn. Nothing is added once it has fired.
  expect(ids.generated.length).toBeLessThan(5 + 2 * 8);
});

it("ends with the very token at which its signal fires", async () => {
  const controller = new AbortController();
  let steps = 0;
  const onStep = () => {
    if (++steps === 5) controller.abort();
  };
  const options = { greedy: true, maxTokens: 200, signal: controller.signal, attention: { onStep } };
  const { ids, finish } = await model.generate("Hello", options).result;
  expect([ids.generated.length, finish, steps]).toEqual([5, "abort", 5]);
});
