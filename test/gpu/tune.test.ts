import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HeedError } from "../../src/core/errors.ts";
import { formatResults, parseResults, type TuneBucket, tuneBuckets } from "../../src/gpu/tune.ts";
import { folderTuneStore } from "../../src/gpu/tune_store_node.ts";
import { pageTuneStore } from "../../src/gpu/tune_store_page.ts";

/** Candidates are the milliseconds that they take on a clock of their own. */
function clock() {
  let at = 0;
  return {
    now: () => at,
    time: async (ms: number) => {
      if (ms < 0) throw new HeedError("UNSUPPORTED", "not here");
      at += ms;
      return ms;
    },
  };
}

const BUCKETS: TuneBucket<number>[] = [
  { name: "a", candidates: { rule: 10, other: 4 } },
  { name: "b", candidates: { rule: 10, other: 9.8, slow: 30 } },
  { name: "c", candidates: { rule: -1, other: 20 } },
  { name: "d", candidates: { rule: -1 } },
];

describe("measuring candidates", () => {
  it("takes the fastest, keeps to the rules' choice where the gain is none, and leaves out what does not run", async () => {
    const results = await tuneBuckets({ buckets: BUCKETS, budgetMs: 1000, ...clock() });
    expect(results.map(({ bucket, kernel }) => [bucket, kernel])).toEqual([
      ["a", "other"],
      ["b", "rule"],
      ["c", "other"],
    ]);
    expect(results[1]?.elapsedMs).toEqual({ rule: 10, other: 9.8, slow: 30 });
  });

  it("ends within its budget, without results for what was not finished", async () => {
    const { now, time } = clock();
    const results = await tuneBuckets({ buckets: BUCKETS, budgetMs: 40, now, time });
    expect(results.map(({ bucket }) => bucket)).toEqual(["a"]);
    expect(now()).toBeLessThanOrEqual(40);
  });

  it("does not wait for a candidate past its end", async () => {
    const start = performance.now();
    const time = () => new Promise<number>(() => {});
    expect(await tuneBuckets({ buckets: BUCKETS, budgetMs: 30, now: () => performance.now(), time })).toEqual([]);
    expect(performance.now() - start).toBeLessThan(500);
  });

  it("reports what is no fault of a candidate", async () => {
    const time = () => Promise.reject(new HeedError("DEVICE_LOST", "gone"));
    await expect(tuneBuckets({ buckets: BUCKETS, budgetMs: 60, now: () => 0, time })).rejects.toMatchObject({
      code: "DEVICE_LOST",
    });
  });
});

describe("kept results", () => {
  const results = [{ bucket: "a", kernel: "other", elapsedMs: { rule: 10, other: 4 } }];

  it("come back, less those of buckets and candidates that are no more", () => {
    expect(parseResults(formatResults(results), BUCKETS)).toEqual(results);
    const gone = [
      { bucket: "z", kernel: "other", elapsedMs: {} },
      { bucket: "a", kernel: "toString", elapsedMs: {} },
      { bucket: "a", kernel: 3, elapsedMs: {} },
      null,
      { bucket: "b", kernel: "slow", elapsedMs: { slow: "fast" } },
    ];
    const text = JSON.stringify({ version: 1, results: gone });
    expect(parseResults(text, BUCKETS)).toEqual([{ bucket: "b", kernel: "slow", elapsedMs: {} }]);
  });

  it.each(["", "{", "null", "[]", '{"version":2,"results":[]}', '{"version":1}'])(
    "are refused where they read %o",
    (text) => {
      expect(() => parseResults(text, BUCKETS)).toThrowError(/^tune: the kept results cannot be read/);
    },
  );

  it("are files below a folder, whole or not there", async () => {
    const folder = mkdtempSync(join(tmpdir(), "heed-tune-"));
    const store = folderTuneStore(join(folder, "deep"));
    expect(await store.read("k")).toBeUndefined();
    await store.write("k", "one");
    await Promise.all([store.write("k", "two"), store.write("k", "two")]);
    expect(await store.read("k")).toBe("two");
    expect(readdirSync(join(folder, "deep"))).toEqual(["k.json"]);
    writeFileSync(join(folder, "file"), "");
    await expect(folderTuneStore(join(folder, "file")).write("k", "three")).rejects.toThrow();
    rmSync(folder, { recursive: true });
  });

  it("are in the page's database", async () => {
    expect(pageTuneStore(undefined)).toBeUndefined();
    const store = pageTuneStore(fakeDatabase());
    expect(await store?.read("k")).toBeUndefined();
    await store?.write("k", "one");
    expect(await store?.read("k")).toBe("one");
    const broken = pageTuneStore(fakeDatabase(new Error("no room")));
    await expect(broken?.write("k", "one")).rejects.toThrow("no room");
  });
});

/** As much of IndexedDB as the store uses. */
function fakeDatabase(failure?: Error): IDBFactory {
  const values = new Map<string, unknown>();
  const request = <T>(result: T) => {
    const made: { result: T; error: Error | undefined; [on: string]: unknown } = { result, error: failure };
    queueMicrotask(() => ((failure ? made["onerror"] : made["onsuccess"]) as (() => void) | undefined)?.());
    return made;
  };
  const store = {
    get: (key: string) => request(values.get(key)),
    put: (value: unknown, key: string) => request(values.set(key, value)),
  };
  const database = { transaction: () => ({ objectStore: () => store }), createObjectStore() {}, close() {} };
  return { open: () => opening(database) } as unknown as IDBFactory;
}

function opening(result: unknown) {
  const made: { result: unknown; [on: string]: unknown } = { result };
  queueMicrotask(() => {
    (made["onupgradeneeded"] as (() => void) | undefined)?.();
    (made["onsuccess"] as (() => void) | undefined)?.();
  });
  return made;
}
