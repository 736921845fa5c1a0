import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeFolder, writeFault } from "../../src/core/make_folder_node.ts";
import { runMain } from "../support/cli.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "heed-folders-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fault = (error: unknown) => writeFault(error)[0];
const isRoot = process.getuid?.() === 0;

describe("makeFolder", () => {
  it("makes a folder and those above it, and says which were made", async () => {
    const path = join(folder, "a", "b", "c");
    expect(await makeFolder(path)).toEqual([join(folder, "a"), join(folder, "a", "b"), path]);
    expect(existsSync(path)).toBe(true);
    expect(await makeFolder(path)).toEqual([]);
    expect((await Promise.all([1, 2].map(() => makeFolder(join(folder, "x", "y"))))).flat().length).toBe(2);
  });

  it("tells of a file, and of a link to nothing, in the way", async () => {
    writeFileSync(join(folder, "file"), "");
    symlinkSync(join(folder, "nowhere"), join(folder, "link"));
    for (const path of ["file", "file/below", "link", "link/below"]) {
      const error = await makeFolder(join(folder, path)).catch((cause: unknown) => cause);
      expect([path, fault(error)]).toEqual([path, "a file where a folder must be, or the reverse"]);
    }
  });

  it.skipIf(isRoot || process.platform === "win32")("tells of a folder that may not be written", async () => {
    mkdirSync(join(folder, "closed"));
    chmodSync(join(folder, "closed"), 0o500);
    expect(fault(await makeFolder(join(folder, "closed", "a")).catch((e: unknown) => e))).toMatch(/may not be written/);
  });

  it.runIf(process.platform === "linux")("ends where the system takes no folders", async () => {
    const error = await makeFolder("/proc/heed/x").catch((cause: unknown) => cause);
    expect(fault(error)).toMatch(isRoot ? /a place where no folder can be made/ : /may not be written|no folder/);
    const { code, stderr } = await runMain(["corpus", "zh-en", "--train", "10", "--output", "/proc/heed/x"]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/corpus: \/proc\/heed\/x must be a folder to write to; got/),
    ]);
  });
});
