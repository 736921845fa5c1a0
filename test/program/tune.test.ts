import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import type { TuneStore } from "../../src/gpu/tune.ts";
import { folderTuneStore } from "../../src/gpu/tune_store_node.ts";
import { autotune, type Candidate, tuneCandidates } from "../../src/program/tune.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith } from "../../src/tasks/engine.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice, describeOnTiers } from "../support/devices.ts";
import { createRandom } from "../support/random.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "heed-tune-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Candidates take as long as their kernel's name is. */
function fakeTime(device: Device) {
  const buckets = tuneCandidates(device);
  return async (candidate: Candidate) => {
    const all = buckets.flatMap(({ candidates }) => Object.entries(candidates));
    const [name] = all.find(([, c]) => String(c.record) === String(candidate.record)) ?? ["?"];
    return name.length;
  };
}

describeOnDevice("tuning", (device) => {
  it("keeps its results, and measures nothing where they are kept", async () => {
    const store = folderTuneStore(join(folder, "kept"));
    let timed = 0;
    const time = async () => {
      timed++;
      return timed;
    };
    const first = await autotune(device(), { store, time });
    expect(first).toMatchObject({ enabled: true, kept: 0, open: [], problem: null, store: store.description });
    expect(first.results.length).toBe(tuneCandidates(device()).length);
    expect(timed).toBeGreaterThan(first.results.length);
    const before = timed;
    const second = await autotune(device(), { store, time });
    expect(timed).toBe(before);
    expect(second).toMatchObject({ kept: first.results.length, results: first.results, key: first.key });
    expect(readdirSync(join(folder, "kept"))).toEqual([`${first.key}.json`]);
  });

  it("measures again where what was kept is broken, and where it cannot be written", async () => {
    const store = folderTuneStore(join(folder, "broken"));
    const time = fakeTime(device());
    const { key } = await autotune(device(), { store, time });
    writeFileSync(join(folder, "broken", `${key}.json`), '{"version":1,"resu');
    const again = await autotune(device(), { store, time });
    expect(again.kept).toBe(0);
    expect(again.problem).toMatch(/^tune: the kept results cannot be read/);
    expect(JSON.parse(readFileSync(join(folder, "broken", `${key}.json`), "utf8")).results.length).toBe(
      again.results.length,
    );
    const failing: TuneStore = {
      description: "nowhere",
      read: () => Promise.reject(new Error("no permission")),
      write: () => Promise.reject(new Error("disk full")),
    };
    const kept = await autotune(device(), { store: failing, time });
    expect(kept.results.length).toBe(again.results.length);
    expect(kept.problem).toBe("disk full");
  });

  it("goes on with what time ran out for", async () => {
    const store = folderTuneStore(join(folder, "open"));
    let at = 0;
    const now = () => at;
    const time = async () => {
      at += 60;
      return 60;
    };
    const first = await autotune(device(), { store, time, now });
    expect(first.open.length).toBeGreaterThan(0);
    expect(first.elapsedMs).toBeLessThanOrEqual(900);
    const second = await autotune(device(), { store, time, now });
    expect(second.kept).toBe(first.results.length);
    expect(second.results.length).toBeGreaterThan(first.results.length);
  });
});

await describeOnTiers("choices", (engine) => {
  it("decide which kernel runs, and its results are right", async () => {
    const random = createRandom(95);
    const x = { shape: [1, 2, 20, 8], data: Float32Array.from(random.normals(320)) };
    const [a, b] = [
      { shape: [20, 32], data: Float32Array.from(random.normals(640)) },
      { shape: [32, 24], data: Float32Array.from(random.normals(768)) },
    ];
    const run = async () => {
      const ran: string[] = [];
      const onKernels = (kernels: readonly string[]) => ran.push(...kernels);
      engine().programs.clear();
      const { out } = await engine().attention(x, x, x, { causal: true, onKernels });
      const product = await engine().matmul(a, b, { onKernels });
      return { ran, values: [...out.data, ...product.data] };
    };
    const byRule = await run();
    const { device } = engine();
    const facts = device.facts;
    device.useChoices({
      "attention prefill, D to 64": "tiled",
      "matmul nn, small": "tiled",
      "matmul nt, small": "nonsense",
    });
    const chosen = await run();
    device.facts = facts;
    engine().programs.clear();
    expect(chosen.ran.join()).toMatch(/attention_tiled.*matmul_tiled/);
    expect(byRule.ran.join()).not.toMatch(/tiled/);
    assertClose(chosen.values, byRule.values, { atol: 1e-4, rtol: 1e-3 });
  });
});

describeOnDevice("tuning for real", (device) => {
  it("times each candidate of a bucket and leaves nothing behind", async () => {
    const buckets = tuneCandidates(device()).filter(({ name }) => name === "linear of 4 rows");
    const before = device().buffersInUse;
    const { results } = await autotune(device(), { buckets, budgetMs: 60_000 });
    const times = Object.values(results[0]?.elapsedMs ?? {});
    expect(times.length).toBe(Object.keys(buckets[0]?.candidates ?? {}).length);
    for (const ms of times) expect(ms).toBeGreaterThan(0);
    expect(device().facts.choices?.["linear of 4 rows"]).toBe(results[0]?.kernel);
    await device().idle();
    expect(device().buffersInUse).toBe(before);
  });
});

describe("an engine", () => {
  it("measures within a second where it is told to, also on a CPU adapter, and not by default there", async () => {
    const gpu = await nodeGpu();
    const store = folderTuneStore(join(folder, "engine"));
    const plain = await createEngineWith({ gpu, tier: "core" }, openSource, async () => store);
    if (plain.facts.software) expect(plain.tuning).toBeUndefined();
    await plain.dispose();
    const engine = await createEngineWith({ gpu, tier: "core", autotune: true }, openSource, async () => store);
    const { tuning } = engine;
    expect(tuning).toMatchObject({ enabled: true, problem: null });
    expect(tuning?.elapsedMs).toBeLessThan(1000);
    await engine.dispose();
    expect(engine.device.buffersInUse).toBe(0);
    const off = await createEngineWith({ gpu, tier: "core", autotune: false }, openSource, async () => store);
    expect(off.tuning).toBeUndefined();
    await off.dispose();
    const bad = { autotune: "yes" as unknown as boolean };
    await expect(createEngineWith({ gpu, ...bad }, openSource)).rejects.toMatchObject({ code: "USAGE" });
  });
});
