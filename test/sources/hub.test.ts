import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HeedError } from "../../src/core/errors.ts";
import { folderCache } from "../../src/sources/cache_folder_node.ts";
import { type HubOptions, hubSource, parseHubName } from "../../src/sources/hub.ts";
import { collect, type DownloadProgress, type Source, type SourceFile } from "../../src/core/source.ts";
import { type HubServer, startHubServer } from "../support/hub_server.ts";

const REPO = "owner/tiny";
const CONFIG = '{"model_type":"llama"}';
const WEIGHTS = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 2654435761) >>> 24);

let server: HubServer;
let folder: string;
let commit: string;

beforeEach(async () => {
  server = await startHubServer();
  folder = await mkdtemp(join(tmpdir(), "heed-hub-"));
  commit = server.setRepo(REPO, { files: { "config.json": CONFIG, "model.safetensors": WEIGHTS } });
});

afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

function open(options: HubOptions = {}, spec = `hf:${REPO}`): Source {
  const cache = folderCache(folder);
  return hubSource(spec, {
    endpoint: server.url,
    retryDelayMs: 1,
    idleTimeoutMs: 2000,
    offline: false,
    cache,
    ...options,
  });
}

async function weightsOf(source: Source): Promise<SourceFile> {
  const file = await source.open("model.safetensors");
  if (!file) throw new Error("model.safetensors is missing");
  return file;
}

function readAll(file: SourceFile, signal?: AbortSignal): Promise<Uint8Array> {
  return collect(file.stream(0, file.sizeBytes, { signal }), file.sizeBytes, file.name);
}

/** `toEqual` on so many bytes takes most of a second. */
function expectWeights(bytes: Uint8Array, start = 0, end = WEIGHTS.length): void {
  expect(bytes.length).toBe(end - start);
  expect(bytes.findIndex((byte, i) => byte !== WEIGHTS[start + i])).toBe(-1);
}

async function failure(work: Promise<unknown>): Promise<HeedError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof HeedError)) throw new Error(`expected a HeedError, got ${String(error)}`);
  return error;
}

/** Requests for the weights' bytes. */
function downloads(): string[] {
  return server.requests.filter((r) => r.cdn).map((r) => r.range ?? "");
}

describe("parseHubName", () => {
  it("reads owner, name and revision", () => {
    expect(parseHubName("hf:a/b")).toEqual({ repo: "a/b", revision: "main" });
    expect(parseHubName("hf:gpt2@refs/pr/1")).toEqual({ repo: "gpt2", revision: "refs/pr/1" });
  });

  it.each([
    "a/b",
    "hf:",
    "hf:a/b/c",
    "hf:../b",
    "hf:a/..",
    "hf:a/b@",
    "hf:a/b@../x",
    "hf:a/b@/x",
    "hf:a b/c",
    "hf:a/b?x",
  ])("refuses %s", (spec) => expect(() => parseHubName(spec)).toThrow(/hub: a model is named hf:owner\/name/));
});

describe("hubSource", () => {
  it("reads files through redirects, from the commit that the revision points to", async () => {
    const source = open();
    expect(await source.readText("config.json")).toBe(CONFIG);
    expectWeights(await readAll(await weightsOf(source)));
    expect(await source.open("absent.json")).toBeUndefined();
    expect(await source.list?.()).toEqual(["config.json", "model.safetensors"]);
    const resolved = server.requests.filter((r) => r.path.includes("/resolve/"));
    expect(resolved.length).toBeGreaterThan(0);
    for (const request of resolved) expect(request.path).toContain(`/resolve/${commit}/`);
  });

  it("reads a part by a range request, without fetching the file", async () => {
    const file = await weightsOf(open());
    expect(await file.read(1000, 1064)).toEqual(WEIGHTS.slice(1000, 1064));
    expect(downloads()).toEqual(["bytes=1000-1063"]);
    expect(await readdir(folder)).not.toContain("blobs");
  });

  it("streams ranges when there is no cache", async () => {
    const file = await weightsOf(open({ cache: undefined }));
    const got = await collect(file.stream(5, 200_005), 200_000, file.name);
    expectWeights(got, 5, 200_005);
    expect(downloads()).toEqual(["bytes=5-200004"]);
  });

  it("fetches a cached file once, and a pinned commit without any request", async () => {
    await readAll(await weightsOf(open()));
    await open().readText("config.json");
    server.requests.length = 0;
    const pinned = open({}, `hf:${REPO}@${commit}`);
    expectWeights(await readAll(await weightsOf(pinned)));
    expect(await pinned.readText("config.json")).toBe(CONFIG);
    expect(server.requests).toEqual([]);
    await readAll(await weightsOf(open()));
    expect(server.requests.map((r) => r.path)).toEqual([`/api/models/${REPO}/revision/main`]);
  });

  it("sees a new commit of a branch, and fetches only what changed", async () => {
    await readAll(await weightsOf(open()));
    server.setRepo(REPO, { files: { "config.json": '{"new":1}', "model.safetensors": WEIGHTS } });
    server.requests.length = 0;
    const source = open();
    expect(await source.readText("config.json")).toBe('{"new":1}');
    expectWeights(await readAll(await weightsOf(source)));
    expect(downloads()).toEqual([]);
  });

  it("works offline from the cache, and says what is missing there", async () => {
    await open().readText("config.json");
    const offline = open({ offline: true });
    expect(await offline.readText("config.json")).toBe(CONFIG);
    const never = await failure(open({ offline: true }, "hf:owner/other").readText("config.json"));
    expect(never).toMatchObject({ code: "NETWORK", message: expect.stringContaining("offline, hf:owner/other@main") });
  });

  it("reports progress up to the file's size", async () => {
    const seen: DownloadProgress[] = [];
    await readAll(await weightsOf(open({ onProgress: (p) => seen.push(p) })));
    expect(seen[0]).toMatchObject({ file: "model.safetensors", totalBytes: WEIGHTS.length });
    expect(seen.at(-1)?.loadedBytes).toBe(WEIGHTS.length);
    for (const [i, p] of seen.entries()) expect(p.loadedBytes).toBeGreaterThanOrEqual(seen[i - 1]?.loadedBytes ?? 0);
  });

  it("downloads once for concurrent readers, in one source and in two", async () => {
    const cache = folderCache(folder);
    const files = await Promise.all([open({ cache }), open({ cache })].map(weightsOf));
    const all = await Promise.all([...files, ...files].map((file) => readAll(file)));
    for (const bytes of all) expectWeights(bytes);
    expect(downloads().length).toBe(1);
  });

  it("lets two caches in one folder (as two processes have) download side by side", async () => {
    server.faults.push({ match: "cdn", times: 2, dripBytes: 60_000, dripMs: 5 });
    const all = await Promise.all([open(), open()].map(async (source) => readAll(await weightsOf(source))));
    for (const bytes of all) expectWeights(bytes);
    expect(await readdir(join(folder, "parts"))).toEqual([]);
  });
});

describe("hubSource access", () => {
  it("sends the token to the endpoint and never to the server it redirects to", async () => {
    server.setRepo(REPO, { files: { "config.json": CONFIG, "model.safetensors": WEIGHTS }, token: "hf_secret" });
    await readAll(await weightsOf(open({ token: "hf_secret" })));
    expect(downloads().length).toBeGreaterThan(0);
    for (const request of server.requests)
      expect(request.authorization).toBe(request.cdn ? undefined : "Bearer hf_secret");
  });

  it.each([
    ["401", { token: "other" }, `hf:${REPO}`, /hf:owner\/tiny@main .*got 401 .*HF_TOKEN/],
    ["403", { gated: true }, `hf:${REPO}`, /got 403 .*accept the model's terms/],
    ["404 of a revision", {}, `hf:${REPO}@nope`, /got 404 \(no such revision nope\)/],
  ])("explains a %s", async (_, repo, spec, message) => {
    server.setRepo(REPO, { files: { "config.json": CONFIG }, ...repo });
    const error = await failure(open({}, spec).readText("config.json"));
    expect(error.code).toBe("NETWORK");
    expect(error.message).toMatch(message);
  });

  it("says that a given token is not enough, without showing it", async () => {
    server.setRepo(REPO, { files: { "config.json": CONFIG }, token: "right" });
    const error = await failure(open({ token: "hf_wrong" }).readText("config.json"));
    expect(error.message).toContain("the token given may not read it");
    expect(error.message).not.toContain("hf_wrong");
  });

  it("reads from a mirror without /api, and from one that lists no sizes", async () => {
    server.hasApi = false;
    const plain = open();
    expect(await plain.readText("config.json")).toBe(CONFIG);
    expect(await plain.open("absent.json")).toBeUndefined();
    expectWeights(await readAll(await weightsOf(plain)));
    server.hasApi = true;
    server.hasBlobs = false;
    expectWeights(await readAll(await weightsOf(open())));
    expect(await readdir(join(folder, "blobs"))).toContainEqual(expect.stringMatching(/^sha256-[0-9a-f]{64}$/));
  });

  it("says that a repository is missing on a mirror without /api", async () => {
    server.hasApi = false;
    const error = await failure(open({}, "hf:owner/absent").readText("config.json"));
    expect(error.message).toMatch(/hf:owner\/absent@main .*got 401/);
  });

  it("refuses names that leave the repository", async () => {
    for (const name of ["../../x", "/etc/passwd", "a//b", "a\\b", "C:/x", "a/./b", ""]) {
      expect((await failure(open().open(name))).code).toBe("BAD_FILE");
    }
    expect(server.requests).toEqual([]);
  });

  it("refuses an endpoint that is no URL and a token that is no token", () => {
    expect(() => hubSource("hf:a/b", { endpoint: "ftp://x" })).toThrow(/HF_ENDPOINT/);
    expect(() => hubSource("hf:a/b", { token: "a\nb" })).toThrow(/HF_TOKEN/);
  });
});

describe("hubSource faults", () => {
  it.each([500, 502, 503, 504, 429])("tries again after %i", async (status) => {
    server.faults.push({ match: "/api/", status, times: 2 }, { match: "cdn", status, times: 2 });
    expectWeights(await readAll(await weightsOf(open())));
  });

  it("waits as long as Retry-After says", async () => {
    server.faults.push({ match: "/api/", status: 503, headers: { "Retry-After": "1" } });
    const start = performance.now();
    await open().readText("config.json");
    expect(performance.now() - start).toBeGreaterThan(900);
  });

  it("gives up where Retry-After is an hour, and where 503 does not end, naming both", async () => {
    server.faults.push({ match: "/api/", status: 503, headers: { "Retry-After": "3600" } });
    expect((await failure(open().readText("config.json"))).message).toContain(
      "status 503, to be tried again in 3600 s",
    );
    server.faults.push({ match: "/api/", status: 503, times: 99 });
    const error = await failure(open({ retries: 2 }).readText("config.json"));
    expect(error).toMatchObject({ code: "NETWORK", message: expect.stringContaining("status 503 after 3 tries") });
  });

  it("says so when nobody listens", async () => {
    const source = open({ retries: 1, endpoint: "http://127.0.0.1:9" });
    expect((await failure(source.readText("config.json"))).code).toBe("NETWORK");
  });

  it("goes on after connections that break, with ranges that fit", async () => {
    server.faults.push({ match: "cdn", truncateAfter: 100_000, times: 2 }, { match: "cdn", hangUp: true });
    expectWeights(await readAll(await weightsOf(open())));
    expect(downloads()).toEqual([
      "bytes=0-299999",
      "bytes=100000-299999",
      "bytes=200000-299999",
      "bytes=200000-299999",
    ]);
  });

  it("starts over in silence with a server that ignores ranges", async () => {
    server.faults.push({ match: "cdn", truncateAfter: 100_000 }, { match: "cdn", ignoreRange: true });
    expectWeights(await readAll(await weightsOf(open())));
  });

  it("gives up a stalled connection and goes on with another", async () => {
    server.faults.push({ match: "cdn", stall: true });
    expectWeights(await readAll(await weightsOf(open({ idleTimeoutMs: 100 }))));
  });

  it("keeps what arrived when it gives up, and goes on from there in the next call", async () => {
    server.faults.push({ match: "cdn", truncateAfter: 120_000 }, { match: "cdn", hangUp: true, times: 99 });
    const error = await failure(readAll(await weightsOf(open({ retries: 1 }))));
    expect(error.code).toBe("NETWORK");
    expect(await readdir(join(folder, "blobs"))).toEqual([]);
    server.faults.length = 0;
    server.requests.length = 0;
    expectWeights(await readAll(await weightsOf(open())));
    expect(downloads()).toEqual(["bytes=120000-299999"]);
  });

  it("does not take damaged bytes: BAD_FILE names both hashes, and the next call is right", async () => {
    server.faults.push({ match: "cdn", corruptAt: 70_000 });
    const error = await failure(readAll(await weightsOf(open())));
    expect(error.code).toBe("BAD_FILE");
    expect(error.message).toMatch(/must have SHA-256 [0-9a-f]{64}; got [0-9a-f]{64}/);
    expectWeights(await readAll(await weightsOf(open())));
  });

  it("finds damage in the part that it went on from, and fetches the file anew", async () => {
    server.faults.push(
      { match: "cdn", truncateAfter: 120_000, corruptAt: 7 },
      { match: "cdn", hangUp: true, times: 99 },
    );
    await failure(readAll(await weightsOf(open({ retries: 0 }))));
    server.faults.length = 0;
    expectWeights(await readAll(await weightsOf(open())));
    expect(downloads().slice(-2)).toEqual(["bytes=120000-299999", "bytes=0-299999"]);
  });

  it("replaces a cached file that was cut short", async () => {
    await readAll(await weightsOf(open()));
    for (const name of await readdir(join(folder, "blobs"))) await truncate(join(folder, "blobs", name), 1000);
    expectWeights(await readAll(await weightsOf(open())));
  });

  it("does without a damaged record", async () => {
    await open().readText("config.json");
    for (const name of await readdir(join(folder, "records"))) await writeFile(join(folder, "records", name), "{");
    expect(await open({}, `hf:${REPO}@${commit}`).readText("config.json")).toBe(CONFIG);
  });

  it("says that the disk is full, and goes on from there when it is not", async () => {
    let room = 150_000;
    const full = folderCache(folder, {
      writeAt: async (handle, bytes, position) => {
        const fits = Math.min(room, bytes.length);
        if (fits === 0) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
        room -= fits;
        return (await handle.write(bytes, 0, fits, position)).bytesWritten;
      },
    });
    const error = await failure(readAll(await weightsOf(open({ cache: full }))));
    expect(error.code).toBe("LIMIT");
    expect(error.message).toMatch(/the disk is full.*HEED_CACHE; the download goes on where it stopped/);
    server.requests.length = 0;
    expectWeights(await readAll(await weightsOf(open())));
    expect(downloads()).toEqual(["bytes=150000-299999"]);
  });

  it("says that the cache cannot be written", async () => {
    await writeFile(join(folder, "file"), "");
    const error = await failure(open({ cache: folderCache(join(folder, "file", "x")) }).readText("config.json"));
    expect(error).toMatchObject({ code: "LIMIT", message: expect.stringContaining("HEED_CACHE") });
  });
});

describe("hubSource abort", () => {
  /** A source whose reader is to be stopped after 40,000 bytes, and the signal that does it. */
  function openToStop(cache = folderCache(folder)): { source: Source; stop: AbortController; stoppedAt: () => number } {
    const stop = new AbortController();
    let at = 0;
    const onProgress = ({ loadedBytes }: DownloadProgress) => {
      if (loadedBytes < 40_000 || stop.signal.aborted) return;
      at = performance.now();
      stop.abort();
    };
    return { source: open({ cache, onProgress }), stop, stoppedAt: () => at };
  }

  it("stops within 250 ms, keeps what arrived, and leaves other readers alone", async () => {
    server.faults.push({ match: "cdn", times: 99, dripBytes: 20_000, dripMs: 30 });
    const cache = folderCache(folder);
    const { source, stop, stoppedAt } = openToStop(cache);
    const stopped = failure(readAll(await weightsOf(source), stop.signal));
    const other = readAll(await weightsOf(open({ cache })));
    expect((await stopped).code).toBe("ABORTED");
    expect(performance.now() - stoppedAt()).toBeLessThan(250);
    expectWeights(await other);
    expect(downloads().length).toBe(1);
  });

  it("goes on at once after an abort, from what was there", async () => {
    server.faults.push({ match: "cdn", dripBytes: 20_000, dripMs: 20 });
    const { source, stop } = openToStop();
    const file = await weightsOf(source);
    const stopped = failure(readAll(file, stop.signal));
    await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
    const again = readAll(file);
    expect((await stopped).code).toBe("ABORTED");
    expectWeights(await again);
    expect(downloads()).toHaveLength(2);
    expect(downloads()[1]).toMatch(/^bytes=[4-9]\d{4}-299999$/);
  });

  it.each(["/api/", "config.json", "cdn"])("stops while %s is silent", async (match) => {
    server.faults.push({ match, times: 99, status: 503, headers: { "Retry-After": "30" } });
    const signal = AbortSignal.timeout(50);
    const work = async () => {
      const source = open();
      await source.readText("config.json", { signal });
      await readAll(await weightsOf(source), signal);
    };
    expect((await failure(work())).code).toBe("ABORTED");
  });

  it("is stopped before it starts", async () => {
    expect((await failure(open().open("config.json", { signal: AbortSignal.abort() }))).code).toBe("ABORTED");
    expect(server.requests).toEqual([]);
  });
});
