import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { listCheckpoints, replaceFile, writeCheckpoint } from "../../src/train/checkpoint_node.ts";

/** The error that the next writes to files fail with, after so many that succeed. */
const fault = vi.hoisted(() => ({ code: undefined as string | undefined, after: 0, isReadOnly: false }));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const fail = () => {
    if (fault.code !== undefined && fault.after-- <= 0)
      throw Object.assign(new Error(fault.code), { code: fault.code });
  };
  return {
    ...real,
    open: async (...args: Parameters<typeof real.open>) => {
      if (args[1] === "w") fail();
      return real.open(...args);
    },
    mkdir: async (...args: Parameters<typeof real.mkdir>) => {
      if (fault.isReadOnly) throw Object.assign(new Error("ENOENT"), { code: "ENOENT" });
      return real.mkdir(...args);
    },
    access: async (...args: Parameters<typeof real.access>) => {
      if (fault.isReadOnly && args[1] === real.constants.W_OK) fail();
      return real.access(...args);
    },
    rename: async (...args: Parameters<typeof real.rename>) => {
      fail();
      return real.rename(...args);
    },
  };
});

let folder: string;
beforeEach(() => {
  Object.assign(fault, { code: undefined, isReadOnly: false });
  folder = join(mkdtempSync(join(tmpdir(), "heed-checkpoints-")), "run");
});
afterEach(() => rmSync(join(folder, ".."), { recursive: true, force: true }));

const files = (text: string) =>
  new Map<string, string | Uint8Array[]>([
    ["state.json", text],
    ["model.bin", [new Uint8Array([1, 2]), new Uint8Array([3])]],
  ]);

describe("checkpoints in a folder", () => {
  it("are whole, in order, and no more than are to be kept", async () => {
    expect(await listCheckpoints(folder)).toEqual([]);
    for (const step of [9, 10, 100]) await writeCheckpoint(folder, step, files(`${step}`), 2);
    const found = await listCheckpoints(folder);
    expect(found.map(({ step }) => step)).toEqual([10, 100]);
    expect(readFileSync(join(found[1]?.path ?? "", "state.json"), "utf8")).toBe("100");
    expect([...readFileSync(join(found[1]?.path ?? "", "model.bin"))]).toEqual([1, 2, 3]);
    expect(readdirSync(folder)).toEqual(["step-00000010", "step-00000100"]);
  });

  it("that a kill left unfinished are passed over, and removed later", async () => {
    await writeCheckpoint(folder, 1, files("1"), 2);
    mkdirSync(join(folder, ".unfinished-abc"));
    writeFileSync(join(folder, ".unfinished-abc", "state.json"), "half");
    expect((await listCheckpoints(folder)).map(({ step }) => step)).toEqual([1]);
    await writeCheckpoint(folder, 2, files("2"), 2);
    expect(readdirSync(folder)).toEqual(["step-00000001", "step-00000002"]);
  });

  it.each([
    ["ENOSPC", 0, /got a full disk.*Free some space/],
    ["ENOSPC", 1, /got a full disk/],
    ["EROFS", 0, /got a folder that may not be written.*choose another output/],
    ["EACCES", 2, /got a folder that may not be written/],
    ["EIO", 1, /got EIO/],
  ])("stay as they were on %s at write %i", async (code, after, message) => {
    await writeCheckpoint(folder, 1, files("1"), 1);
    Object.assign(fault, { code, after });
    await expect(writeCheckpoint(folder, 2, files("2"), 1)).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(message),
    });
    fault.code = undefined;
    const found = await listCheckpoints(folder);
    expect(found.map(({ step }) => step)).toEqual([1]);
    expect(readFileSync(join(found[0]?.path ?? "", "state.json"), "utf8")).toBe("1");
    expect(readdirSync(folder)).toEqual(["step-00000001"]);
  });

  it("of a step that is there already keep its bytes", async () => {
    await writeCheckpoint(folder, 3, files("3"), 2);
    await writeCheckpoint(folder, 3, files("3"), 2);
    expect(readdirSync(folder)).toEqual(["step-00000003"]);
  });

  it("say so where a file stands in the way", async () => {
    writeFileSync(folder, "a file");
    const message = expect.stringMatching(/got a file where a folder must be.*choose another output/);
    await expect(writeCheckpoint(folder, 1, files("1"), 2)).rejects.toMatchObject({ code: "BAD_FILE", message });
    await expect(listCheckpoints(folder)).rejects.toMatchObject({ code: "BAD_FILE", message });
    expect(readFileSync(folder, "utf8")).toBe("a file");
  });

  it("say so where a file system is read only, of which node says that a folder is missing", async () => {
    mkdirSync(folder);
    Object.assign(fault, { code: "EROFS", after: 0, isReadOnly: true });
    await expect(replaceFile(join(folder, "new", "log.jsonl"), "log")).rejects.toMatchObject({
      message: expect.stringContaining("got a folder that may not be written"),
    });
  });

  it("replace a file in one step, or not at all", async () => {
    const path = join(folder, "log.jsonl");
    await replaceFile(path, "old");
    Object.assign(fault, { code: "ENOSPC", after: 0 });
    await expect(replaceFile(path, "new")).rejects.toMatchObject({ code: "BAD_FILE" });
    expect(readFileSync(path, "utf8")).toBe("old");
    fault.code = undefined;
    await replaceFile(path, "new");
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(readdirSync(folder)).toEqual(["log.jsonl"]);
  });
});
