import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, type Source } from "../../src/core/source.ts";
import { folderCache } from "../../src/sources/cache_folder_node.ts";
import { type UrlOptions, urlSource } from "../../src/sources/url.ts";
import { type HubServer, startHubServer } from "../support/hub_server.ts";

const WEIGHTS = Uint8Array.from({ length: 5000 }, (_, i) => i % 251);

let server: HubServer;
let folder: string;

beforeEach(async () => {
  server = await startHubServer();
  folder = await mkdtemp(join(tmpdir(), "heed-url-"));
  setWeights(WEIGHTS);
});

afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

function setWeights(bytes: Uint8Array): void {
  server.setRepo("a/b", {
    files: { "config.json": "{}", "sub dir/x#1.json": "[]", "w.safetensors": bytes, empty: "" },
  });
}

function open(options: UrlOptions = {}): Source {
  return urlSource(server.plainUrl("a/b"), { retryDelayMs: 1, retries: 2, ...options });
}

async function readAll(source: Source, name = "w.safetensors"): Promise<Uint8Array | undefined> {
  const file = await source.open(name);
  return file && collect(file.stream(0, file.sizeBytes), file.sizeBytes, name);
}

describe("urlSource", () => {
  it("reads files and ranges below a URL, with names escaped", async () => {
    const source = open();
    expect(await source.readText("config.json")).toBe("{}");
    expect(await source.readText("sub dir/x#1.json")).toBe("[]");
    expect(await readAll(source, "empty")).toEqual(new Uint8Array(0));
    expect(await (await source.open("w.safetensors"))?.read(4000, 4100)).toEqual(WEIGHTS.slice(4000, 4100));
    expect(await source.open("none")).toBeUndefined();
    expect(server.requests.at(-2)?.range).toBe("bytes=4000-4099");
  });

  it("takes a URL with or without a slash, and keeps its query", async () => {
    const seen: string[] = [];
    const spy: typeof fetch = (input, init) => {
      seen.push(String(input));
      return fetch(input, init);
    };
    const base = `${server.plainUrl("a/b").slice(0, -1)}?key=1#part`;
    await urlSource(base, { fetch: spy }).readText("config.json");
    expect(new Set(seen)).toEqual(new Set([`${server.plainUrl("a/b")}config.json?key=1`]));
  });

  it("keeps files under their ETag: unchanged ones are not fetched again, changed ones are", async () => {
    const cache = folderCache(folder);
    await readAll(open({ cache }));
    server.requests.length = 0;
    expect(await readAll(open({ cache }))).toEqual(WEIGHTS);
    expect(server.requests.map((r) => r.range)).toEqual(["bytes=0-0"]);
    setWeights(WEIGHTS.with(3, 77));
    expect(await readAll(open({ cache }))).toEqual(WEIGHTS.with(3, 77));
  });

  it("does not mix two versions of a file that changes while it is read", async () => {
    const file = await open().open("w.safetensors");
    setWeights(WEIGHTS.with(3, 77));
    await expect(file?.read(0, 10)).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining("ETag"),
    });
    setWeights(WEIGHTS.slice(0, 4000));
    await expect(file?.read(4500, 4600)).rejects.toMatchObject({ code: "BAD_FILE" });
  });

  it("does not go on with another version of a file when a download broke", async () => {
    const cache = folderCache(folder);
    let requests = 0;
    const changing: typeof fetch = (input, init) => {
      // One request opens the file, the next breaks after 1000 bytes, and then there is another version.
      if (++requests === 2) server.faults.push({ match: "safetensors", truncateAfter: 1000 });
      if (requests === 3) setWeights(WEIGHTS.with(4000, 1));
      return fetch(input, init);
    };
    await expect(readAll(open({ cache, fetch: changing }))).rejects.toMatchObject({ code: "BAD_FILE" });
    expect(requests).toBe(3);
    expect(await readAll(open({ cache }))).toEqual(WEIGHTS.with(4000, 1));
  });

  it.each([401, 403, 500])("names the file, the place and the status %i", async (status) => {
    server.faults.push({ match: "config.json", status, times: 9 });
    const message = expect.stringMatching(new RegExp(`config\\.json.*${status}`));
    await expect(open().readText("config.json")).rejects.toMatchObject({ code: "NETWORK", message });
  });

  it.each(["ftp://x/y", "x/y", "https://user:secret@host/x", ""])("refuses the base %s", (base) => {
    expect(() => urlSource(base)).toThrow(/http or https URL/);
    expect(() => urlSource(base)).not.toThrow(/secret/);
  });
});

describe("urlSource on a server without ranges", () => {
  let plain: Server;
  let hits: number;
  const large = new Uint8Array(18 * 2 ** 20);

  beforeEach(async () => {
    hits = 0;
    plain = createServer((_, response) => {
      hits++;
      response.writeHead(200, { "Content-Length": large.length, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT" });
      response.end(large);
    });
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  });
  afterEach(async () => {
    plain.closeAllConnections();
    await new Promise((resolve) => plain.close(resolve));
  });
  const base = () => `http://127.0.0.1:${(plain.address() as AddressInfo).port}/`;

  it("fetches a file whole into the cache, under its time and size, once", async () => {
    const cache = folderCache(folder);
    const file = await urlSource(base(), { cache }).open("w");
    let bytes = 0;
    for await (const chunk of file?.stream(large.length - 100, large.length) ?? []) bytes += chunk.length;
    expect(bytes).toBe(100);
    expect(await readdir(join(folder, "blobs"))).toHaveLength(1);
    const before = hits;
    await (await urlSource(base(), { cache }).open("w"))?.read(0, 10);
    expect(hits - before).toBe(1);
  });

  it("passes over the front where that is short, and says so where it is not", async () => {
    const file = await urlSource(base()).open("w");
    expect(await file?.read(1000, 1010)).toEqual(new Uint8Array(10));
    const error = file?.read(17 * 2 ** 20, 17 * 2 ** 20 + 10);
    await expect(error).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("range requests"),
    });
  });
});
