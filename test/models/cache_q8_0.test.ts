import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";

/** A llama with heads of 32 channels; see test/fixtures/make_cache_golden.py. */
const FOLDER = fileURLToPath(new URL("../fixtures/goldens/llama_wide_heads", import.meta.url));

interface Story {
  logits: AssetArray;
  greedy: number[];
}

const CASES = readJson<(Story & { ids: number[]; rounded: Story })[]>(join(FOLDER, "expected.json"));
const GREEDY = { greedy: true, maxTokens: 20 };

await describeOnTiers("a cache in q8_0", (engine) => {
  it("tells the story that transformers tells, and computes what it does from keys and values in q8_0", async () => {
    const model = await engine().load(FOLDER, { cacheDtype: "q8_0" });
    for (const { ids, logits, greedy, rounded } of CASES) {
      const got = Float64Array.from((await model.logits(ids)).flatMap((row) => [...row]));
      // A number that f32 and float64 round to neighbouring bytes moves the logits by about 1e-3 of what all bytes do.
      expect(nmse(got, decodeArray(rounded.logits))).toBeLessThan(2e-6);
      expect(nmse(got, decodeArray(logits))).toBeGreaterThan(2e-5);
      const { ids: written } = await model.generate(ids, GREEDY).result;
      expect(written.generated).toEqual(greedy);
    }
    const together = await Promise.all(CASES.map(({ ids }) => model.generate(ids, GREEDY).result));
    expect(together.map((r) => r.ids.generated)).toEqual(CASES.map((c) => c.greedy));
    await model.dispose();
  });

  it("forks and copies pages as with any cache, and shows the weights of the keys that it holds", async () => {
    const model = await engine().load(FOLDER, { cacheDtype: "q8_0" });
    const { ids = [], greedy } = CASES[1] ?? {};
    using session = model.session();
    await session.append(ids);
    using fork = session.fork();
    for (const one of [session, fork]) {
      expect((await one.generate([], GREEDY).result).ids.generated).toEqual(greedy);
    }
    const { attention = [] } = await model.generate(ids, { greedy: true, maxTokens: 1, attention: {} }).result;
    const whole = await model.run(ids, { attention: { layers: [0], heads: [1], queries: [ids.length - 1] } });
    const want = whole.attention[0]?.weights ?? [];
    expect(want).toHaveLength(ids.length);
    const captured = attention[0]?.layers[0];
    const row = captured?.weights?.slice(captured.keys, 2 * captured.keys) ?? [];
    assertClose(row, want, { atol: 1e-2, rtol: 2e-2, label: "weights of head 1" });
    await model.dispose();
  });

  it("takes nine words where f32 takes 32", async () => {
    const states: number[] = [];
    for (const cacheDtype of ["f32", "q8_0"] as const) {
      const model = await engine().load(FOLDER, { cacheDtype, cacheTokens: 1024 });
      states.push((await model.describe()).bytes.states);
      await model.dispose();
    }
    const [f32 = 0, q80 = 0] = states;
    const pools = 2 * 2 * 1024 * 32 * 4;
    expect(f32 - q80).toBe(pools - (pools * 9) / 32);
  });

  it("refuses heads of other sizes, and types that do not exist", async () => {
    await expect(engine().load(goldenPath("llama_gqa"), { cacheDtype: "q8_0" })).rejects.toThrowError(
      "llama: a cache in q8_0 needs a head size that is a multiple of 32; got 16. Use cacheDtype f16.",
    );
    const wrong = { cacheDtype: "q4_0" } as object;
    await expect(engine().load(goldenPath("llama_gqa"), wrong)).rejects.toThrowError(/cacheDtype must be f32, f16 or/);
  });
});

function nmse(got: Float64Array, want: Float64Array): number {
  return square(got.map((x, i) => x - (want[i] as number))) / square(want);
}

function square(x: Float64Array): number {
  return x.reduce((sum, value) => sum + value * value, 0);
}
