import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { folderSource } from "../../src/sources/folder_node.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "heed-folder-"));
  await writeFile(join(folder, "config.json"), "{}");
  await mkdir(join(folder, "sub"));
  await writeFile(join(folder, "sub", "x.bin"), new Uint8Array(3e6).fill(7));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

describe("folderSource", () => {
  it("opens files below the folder and lists them", async () => {
    const source = await folderSource(folder);
    expect(await source.readText("config.json")).toBe("{}");
    expect((await source.open("sub/x.bin"))?.sizeBytes).toBe(3e6);
    expect(await source.open("sub")).toBeUndefined();
    expect(await source.open("config.json/x")).toBeUndefined();
    expect(await source.open("none")).toBeUndefined();
    expect(await source.list?.()).toEqual(["config.json", "sub/x.bin"]);
  });

  it("follows links, of which the Hub's own cache consists", async () => {
    await symlink(join(folder, "sub", "x.bin"), join(folder, "model.safetensors"));
    const source = await folderSource(folder);
    expect((await source.open("model.safetensors"))?.sizeBytes).toBe(3e6);
    expect(await source.list?.()).toContain("model.safetensors");
  });

  it("refuses names that leave it", async () => {
    const source = await folderSource(folder);
    for (const name of ["../config.json", "/etc/hostname", "sub/../../x", "C:\\x", "a\0b"]) {
      await expect(source.open(name)).rejects.toMatchObject({ code: "BAD_FILE" });
    }
  });

  it("says what is at a path that is no folder", async () => {
    await expect(folderSource(join(folder, "none"))).rejects.toThrow(/must be a folder .*; got nothing there/);
    await expect(folderSource(join(folder, "config.json"))).rejects.toThrow(/got a file/);
  });

  it("reads ranges, and says when a file became shorter or vanished", async () => {
    const source = await folderSource(folder);
    const file = await source.open("sub/x.bin");
    expect(await file?.read(2_999_990, 3_000_000)).toEqual(new Uint8Array(10).fill(7));
    await truncate(join(folder, "sub", "x.bin"), 2_000_000);
    await expect(file?.read(1_500_000, 2_500_000)).rejects.toThrow(/must give 1000000 bytes here; got 500000/);
    await rm(join(folder, "sub", "x.bin"));
    await expect(file?.read(0, 1)).rejects.toMatchObject({ code: "BAD_FILE" });
  });

  it("stops between chunks when aborted", async () => {
    const file = await (await folderSource(folder)).open("sub/x.bin");
    const stop = new AbortController();
    const work = async () => {
      for await (const _ of file?.stream(0, 3e6, { signal: stop.signal }) ?? []) stop.abort();
    };
    await expect(work()).rejects.toMatchObject({ code: "ABORTED" });
  });
});
