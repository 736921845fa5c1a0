import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openSource as openInPage } from "../../src/sources/open_source.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { startHubServer } from "../support/hub_server.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "heed-open-"));
  vi.stubEnv("HEED_CACHE", join(folder, "cache"));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe("openSource", () => {
  it("knows Hub names, Hub pages, URLs, files, folders and sources", async () => {
    const description = async (spec: Parameters<typeof openSource>[0]) => (await openSource(spec)).description;
    expect(await description("hf:a/b@v1")).toBe("hf:a/b@v1");
    expect(await description("https://huggingface.co/a/b")).toBe("hf:a/b@main");
    expect(await description("https://huggingface.co/a/b.c/tree/refs/pr/1/")).toBe("hf:a/b.c@refs/pr/1");
    expect(await description("https://example.org/models/x")).toBe("https://example.org/models/x/");
    expect(await description(new URL("http://example.org/x/"))).toBe("http://example.org/x/");
    expect(await description([new File(["{}"], "config.json")])).toBe("1 chosen file");
    expect(await description(folder)).toBe(folder);
    expect(await description(pathToFileURL(folder))).toBe(folder);
    const source = await openSource(folder);
    expect(await openSource(source)).toBe(source);
  });

  it("honours HF_ENDPOINT, HF_TOKEN and HEED_CACHE in Node", async () => {
    const server = await startHubServer();
    server.setRepo("a/b", { files: { "config.json": '{"x":1}' }, token: "hf_t" });
    vi.stubEnv("HF_ENDPOINT", `${server.url}/`);
    vi.stubEnv("HF_TOKEN", "hf_t");
    expect(await (await openSource("hf:a/b")).readText("config.json")).toBe('{"x":1}');
    expect(await readdir(join(folder, "cache", "blobs"))).toHaveLength(1);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    server.requests.length = 0;
    expect(await (await openSource("hf:a/b")).readText("config.json")).toBe('{"x":1}');
    expect(server.requests).toEqual([]);
    await server.close();
  });

  it("keeps nothing with cache: false", async () => {
    const server = await startHubServer();
    server.setRepo("a/b", { files: { "config.json": "{}" } });
    await (await openSource("hf:a/b", { endpoint: server.url, cache: false })).readText("config.json");
    await expect(readdir(join(folder, "cache"))).rejects.toThrow("ENOENT");
    await server.close();
  });

  it("does not give the Hub's token to other servers", async () => {
    const server = await startHubServer();
    server.setRepo("a/b", { files: { "config.json": "{}" } });
    vi.stubEnv("HF_TOKEN", "hf_t");
    await (await openSource(server.plainUrl("a/b"), { token: "hf_u" })).readText("config.json");
    expect(server.requests.map((r) => r.authorization)).toEqual([undefined, undefined]);
    await server.close();
  });

  it("refuses a path in a page, and a path to nothing in Node, with the way out", async () => {
    await expect(openInPage("./model")).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("heed/node"),
    });
    await writeFile(join(folder, "f"), "");
    await expect(openSource(join(folder, "f"))).rejects.toMatchObject({ code: "BAD_FILE" });
  });

  it("names one file of a place where it ends in .gguf", async () => {
    await writeFile(join(folder, "m.gguf"), "GGUF");
    expect((await openSource(join(folder, "m.gguf"))).only).toBe("m.gguf");
    const server = await startHubServer();
    server.setRepo("a/b", { files: { "q/m.gguf": "GGUF", "m.gguf": "GGUF" } });
    const inRepo = await openSource("hf:a/b@main/q/m.gguf", { endpoint: server.url, cache: false });
    expect([inRepo.only, (await inRepo.open("q/m.gguf"))?.sizeBytes]).toEqual(["q/m.gguf", 4]);
    const inFolder = await openSource(`${server.plainUrl("a/b").replace(/\/$/, "")}/m.gguf`, { cache: false });
    expect([inFolder.only, (await inFolder.open("m.gguf"))?.sizeBytes]).toEqual(["m.gguf", 4]);
    await server.close();
  });
});
