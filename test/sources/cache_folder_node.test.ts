import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cachedFile, type DownloadJob } from "../../src/sources/cache.ts";
import { folderCache } from "../../src/sources/cache_folder_node.ts";

const CONTENT = new Uint8Array(1000).fill(5);

let folder: string;
let starts: number[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "heed-cache-"));
  starts = [];
  await mkdir(join(folder, "parts"));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function job(key = "key"): DownloadJob {
  const fetch = async function* (start: number) {
    starts.push(start);
    yield CONTENT.subarray(start);
  };
  return { key, name: "file", sizeBytes: CONTENT.length, fetch };
}

async function leavePart(name: string, bytes: number): Promise<string> {
  const path = join(folder, "parts", name);
  await writeFile(path, CONTENT.subarray(0, bytes));
  return path;
}

/** The id of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ["--version"]).pid;
}

describe("folderCache", () => {
  it("goes on with the longest part of a process that was killed", async () => {
    await leavePart(`key.${deadPid()}-000000000001`, 200);
    await leavePart(`key.${deadPid()}-000000000002`, 700);
    await leavePart(`other.${deadPid()}-000000000003`, 900);
    const file = await cachedFile(folderCache(folder), job());
    expect(starts).toEqual([700]);
    expect(await file.read(0, 1000)).toEqual(CONTENT);
  });

  it("leaves a part alone that a running process writes, until it is a minute old", async () => {
    const part = await leavePart(`key.${process.ppid}-000000000001`, 300);
    await cachedFile(folderCache(folder), job());
    expect(starts).toEqual([0]);
    await rm(join(folder, "blobs", "key"));
    await utimes(part, Date.now() / 1000 - 100, Date.now() / 1000 - 100);
    await cachedFile(folderCache(folder), job());
    expect(starts).toEqual([0, 300]);
  });

  it("drops a part that is longer than the file", async () => {
    await writeFile(join(folder, "parts", `key.${deadPid()}-000000000001`), new Uint8Array(2000));
    const file = await cachedFile(folderCache(folder), job());
    expect(starts).toEqual([0]);
    expect(await file.read(0, 1000)).toEqual(CONTENT);
  });

  it("keeps an empty file", async () => {
    const file = await cachedFile(folderCache(folder), { ...job(), sizeBytes: 0 });
    expect(file.sizeBytes).toBe(0);
    expect(starts).toEqual([]);
  });

  it("leaves nothing behind but whole files", async () => {
    await Promise.all([cachedFile(folderCache(folder), job("a")), cachedFile(folderCache(folder), job("b"))]);
    expect(await readdir(join(folder, "parts"))).toEqual([]);
    expect((await readdir(join(folder, "blobs"))).sort()).toEqual(["a", "b"]);
  });
});
