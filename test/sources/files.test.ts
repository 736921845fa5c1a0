import { describe, expect, it } from "vitest";
import { collect } from "../../src/core/source.ts";
import { BlobFile, filesSource } from "../../src/sources/files.ts";
import { FakeDirectory } from "../support/fake_directory.ts";

function fileAt(path: string, content: string): File {
  const file = new File([content], path.split("/").at(-1) ?? "");
  Object.defineProperty(file, "webkitRelativePath", { value: path.includes("/") ? path : "" });
  return file;
}

describe("filesSource", () => {
  it("finds chosen files by name", async () => {
    const source = filesSource([fileAt("config.json", "{}"), fileAt("model.safetensors", "abc")]);
    expect(await source.readText("config.json")).toBe("{}");
    expect(await source.open("other")).toBeUndefined();
    expect(await source.list?.()).toEqual(["config.json", "model.safetensors"]);
    expect(source.description).toBe("2 chosen files");
  });

  it("leaves out the common folder of a dropped one, and keeps those below it", async () => {
    const source = filesSource([fileAt("tiny/config.json", "{}"), fileAt("tiny/sub/x.json", "1")]);
    expect(await source.list?.()).toEqual(["config.json", "sub/x.json"]);
    const mixed = filesSource([fileAt("a/x.json", "{}"), fileAt("b/x.json", "{}")]);
    expect(await mixed.list?.()).toEqual(["a/x.json", "b/x.json"]);
  });

  it("refuses two files of one name", () => {
    expect(() => filesSource([fileAt("config.json", "1"), fileAt("config.json", "2")])).toThrow(/config\.json twice/);
  });

  it("reads a directory handle", async () => {
    const root = new FakeDirectory("tiny");
    root.files.set("config.json", new Blob(["{}"]));
    const sub = await root.getDirectoryHandle("sub", { create: true });
    sub.files.set("x.json", new Blob(["[1]"]));
    const source = filesSource(root.handle);
    expect(await source.readText("sub/x.json")).toBe("[1]");
    expect(await source.open("sub")).toBeUndefined();
    expect(await source.open("config.json/x")).toBeUndefined();
    expect(await source.open("none/x")).toBeUndefined();
    expect(await source.list?.()).toEqual(["config.json", "sub/x.json"]);
    await expect(source.open("../x")).rejects.toMatchObject({ code: "BAD_FILE" });
  });

  it("says that a text is too long or no text", async () => {
    const source = filesSource([fileAt("a.json", "12345")]);
    await expect(source.readText("a.json", { maxBytes: 4 })).rejects.toThrow(/at most 4 bytes; got 5/);
    const bytes = filesSource(new Map([["a.json", new Blob([Uint8Array.of(0xc0, 0x80)])]]));
    await expect(bytes.readText("a.json")).rejects.toThrow(/must be UTF-8/);
  });
});

describe("BlobFile", () => {
  it("says to choose a file again that changed on disk", async () => {
    const changed = {
      size: 4,
      slice: () => ({
        stream: () =>
          new ReadableStream({ pull: (controller) => controller.error(new DOMException("gone", "NotReadableError")) }),
      }),
    };
    const file = new BlobFile(changed as unknown as Blob, "model.safetensors");
    const error = await file.read(0, 4).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/NotReadableError.*Choose it again/),
    });
  });

  it("refuses ranges outside, and stops when aborted", async () => {
    const file = new BlobFile(new Blob([new Uint8Array(10)]), "x");
    for (const [start, end] of [
      [-1, 4],
      [0, 11],
      [5, 4],
      [0.5, 2],
      [0, Number.NaN],
    ] as const) {
      expect(() => file.read(start, end)).toThrow(/x has 10 bytes/);
    }
    const stopped = collect(file.stream(0, 10, { signal: AbortSignal.abort() }), 10, "x");
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
  });
});
