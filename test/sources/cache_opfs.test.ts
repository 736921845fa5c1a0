import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect } from "../../src/core/source.ts";
import { cachedFile, type DownloadJob, type FileCache } from "../../src/sources/cache.ts";
import { clearOpfs, opfsCache, opfsUsage } from "../../src/sources/cache_opfs.ts";
import { hubSource } from "../../src/sources/hub.ts";
import { FakeDirectory } from "../support/fake_directory.ts";
import { type HubServer, startHubServer } from "../support/hub_server.ts";

const CONTENT = Uint8Array.from({ length: 2500 }, (_, i) => i % 251);

let root: FakeDirectory;
let cache: FileCache;
let starts: number[];

beforeEach(async () => {
  root = new FakeDirectory();
  starts = [];
  const opened = await opfsCache({ root: root.handle, segmentBytes: 1000 });
  if (!opened) throw new Error("the fake directory can be written");
  cache = opened;
});

/** A job that sends CONTENT in pieces of 300 bytes and fails at byte `failAt`. */
function job(failAt = Number.POSITIVE_INFINITY): DownloadJob {
  return {
    key: "key",
    name: "file",
    sizeBytes: CONTENT.length,
    fetch: async function* (start) {
      starts.push(start);
      for (let at = start; at < CONTENT.length; at += 300) {
        if (at >= failAt) throw new Error("broken");
        yield CONTENT.subarray(at, at + 300);
      }
    },
  };
}

function segments(): string[] {
  return [...(root.folders.get("heed-cache")?.files.keys() ?? [])].filter((name) => name.startsWith("key")).sort();
}

describe("opfsCache", () => {
  it("keeps a file in segments and reads any range back", async () => {
    const file = await cachedFile(cache, job());
    expect(segments()).toEqual(["key.0", "key.1", "key.2", "key.done"]);
    expect(await file.read(0, CONTENT.length)).toEqual(CONTENT);
    expect(await collect(file.stream(990, 2010), 1020, "file")).toEqual(CONTENT.slice(990, 2010));
    expect(await file.read(1000, 1000)).toEqual(new Uint8Array(0));
    await cachedFile(cache, job());
    expect(starts).toEqual([0]);
  });

  it("goes on where it stopped, inside a segment too", async () => {
    await expect(cachedFile(cache, job(1500))).rejects.toThrow("broken");
    expect(await cache.openBlob("key", "file", CONTENT.length)).toBeUndefined();
    const file = await cachedFile(cache, job());
    expect(starts).toEqual([0, 1500]);
    expect(await file.read(0, CONTENT.length)).toEqual(CONTENT);
  });

  it.each([
    ["lost", undefined, 1000],
    ["shortened", new Blob([CONTENT.slice(1000, 1500)]), 1500],
    ["lengthened", new Blob([CONTENT.slice(1000, 2200)]), 1000],
  ])("takes a file with a %s segment for a part up to there", async (_, segment, end) => {
    await cachedFile(cache, job());
    const { files } = root.folders.get("heed-cache") as FakeDirectory;
    if (segment) files.set("key.1", segment);
    else files.delete("key.1");
    const file = await cachedFile(cache, job());
    expect(starts).toEqual([0, end]);
    expect(await file.read(0, CONTENT.length)).toEqual(CONTENT);
  });

  it("tells its size, whole files apart, and can be emptied", async () => {
    await cachedFile(cache, job());
    await expect(cachedFile(cache, { ...job(1500), key: "key2" })).rejects.toThrow("broken");
    expect(await opfsUsage(root.handle)).toEqual({ bytes: CONTENT.length + 4 + 1500, files: 1 });
    await clearOpfs(root.handle);
    expect(await opfsUsage(root.handle)).toEqual({ bytes: 0, files: 0 });
    expect(await cache.openBlob("key", "file", CONTENT.length)).toBeUndefined();
  });

  it("says that the quota is used up, and goes on from there when it is not", async () => {
    const folder = root.folders.get("heed-cache") as FakeDirectory;
    folder.quotaBytes = 1400;
    await expect(cachedFile(cache, job())).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringContaining("site"),
    });
    folder.quotaBytes = 1e6;
    await cachedFile(cache, job());
    expect(starts).toEqual([0, 1000]);
  });

  it("keeps records", async () => {
    expect(await cache.readRecord("r.json")).toBeUndefined();
    await cache.writeRecord("r.json", "{}");
    expect(await cache.readRecord("r.json")).toBe("{}");
  });

  it("is absent where there is no such file system, or it refuses", async () => {
    expect(await opfsCache()).toBeUndefined();
    const refusing = { getDirectoryHandle: async () => Promise.reject(new DOMException("no", "SecurityError")) };
    expect(await opfsCache({ root: refusing as unknown as FileSystemDirectoryHandle })).toBeUndefined();
  });
});

describe("opfsCache under a Hub", () => {
  let server: HubServer;
  beforeEach(async () => {
    server = await startHubServer();
    server.setRepo("o/m", { files: { "config.json": "{}", "model.safetensors": CONTENT } });
  });
  afterEach(() => server.close());

  it("finds damage in a kept segment by the file's hash, and fetches the file anew", async () => {
    const open = async () => {
      const source = hubSource("hf:o/m", { endpoint: server.url, cache, retries: 0, retryDelayMs: 1 });
      const file = await source.open("model.safetensors");
      return file && collect(file.stream(0, file.sizeBytes), file.sizeBytes, file.name);
    };
    server.faults.push({ match: "cdn", truncateAfter: 1500, corruptAt: 5 }, { match: "cdn", hangUp: true });
    await expect(open()).rejects.toMatchObject({ code: "NETWORK" });
    expect(await open()).toEqual(CONTENT);
    const ranges = server.requests.filter((r) => r.cdn).map((r) => r.range);
    expect(ranges.slice(-2)).toEqual(["bytes=1500-2499", "bytes=0-2499"]);
  });
});
