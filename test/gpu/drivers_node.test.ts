import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  cacheFolder,
  findDrivers,
  findPackage,
  findSoftwareGpus,
  unpackBrotliTar,
} from "../../src/gpu/drivers_node.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "heed-drivers-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("findDrivers", () => {
  it("lists what VK_DRIVER_FILES names, present or not, and nothing else", () => {
    const file = join(folder, "some_icd.json");
    writeFileSync(file, "{}");
    expect(findDrivers({ VK_DRIVER_FILES: `${file}:/nonexistent` })).toEqual([
      { file, origin: "environment", present: true },
      { file: "/nonexistent", origin: "environment", present: false },
    ]);
  });

  it("reads the older VK_ICD_FILENAMES too, and lets VK_DRIVER_FILES win", () => {
    expect(findDrivers({ VK_ICD_FILENAMES: "/a" }).map((driver) => driver.file)).toEqual(["/a"]);
    expect(findDrivers({ VK_ICD_FILENAMES: "/a", VK_DRIVER_FILES: "/b" }).map((driver) => driver.file)).toEqual(["/b"]);
  });
});

describe("findSoftwareGpus", () => {
  const installed = process.platform === "linux" && process.arch === "x64" && findPackage("@sparticuz/chromium");

  it.skipIf(!installed)(
    "leaves hidden drivers hidden and unpacks SwiftShader (needs @sparticuz/chromium)",
    async () => {
      const environment = { VK_DRIVER_FILES: "/nonexistent", HEED_CACHE: folder, LD_LIBRARY_PATH: "/opt/lib" };
      const found = await findSoftwareGpus(environment);
      expect(found).toHaveLength(1);
      const { VK_DRIVER_FILES: driver = "", LD_LIBRARY_PATH: libraries = "" } = found[0]?.environment ?? {};
      const [own = "", rest] = libraries.split(":");
      expect(rest).toBe("/opt/lib");
      expect(readdirSync(own).sort()).toEqual(["libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"]);
      expect(driver.startsWith(folder)).toBe(true);
      expect(readFileSync(driver, "utf8")).toContain("libvk_swiftshader.so");
    },
  );

  it.skipIf(!installed)("names the folder that it could not unpack into (needs @sparticuz/chromium)", async () => {
    writeFileSync(join(folder, "file"), "");
    const environment = { VK_DRIVER_FILES: "/nonexistent", HEED_CACHE: join(folder, "file") };
    await expect(findSoftwareGpus(environment)).rejects.toMatchObject({
      code: "NO_ADAPTER",
      message: expect.stringMatching(/unpacked into .*file\/swiftshader.*HEED_CACHE/),
    });
  });

  it.skipIf(!installed)("unpacks once where several processes start together (needs @sparticuz/chromium)", async () => {
    const environment = { VK_DRIVER_FILES: "/nonexistent", HEED_CACHE: folder };
    await Promise.all([1, 2, 3].map(() => findSoftwareGpus(environment)));
    expect(readdirSync(folder)).toHaveLength(1);
  });
});

describe("cacheFolder", () => {
  it("is HEED_CACHE, else in the user's cache", () => {
    expect(cacheFolder({ HEED_CACHE: "/x/y" })).toBe("/x/y");
    if (process.platform !== "linux") return;
    expect(cacheFolder({ XDG_CACHE_HOME: "/c" })).toBe("/c/heed");
    expect(cacheFolder({ HOME: "/h" })).toBe("/h/.cache/heed");
  });
});

describe("unpackBrotliTar", () => {
  it("writes files with their folders and rights", async () => {
    const file = pack([tarEntry("a.txt", "alpha"), tarEntry("lib/b.so", "b".repeat(700), { mode: 0o777 })]);
    await unpackBrotliTar(file, join(folder, "out"));
    expect(readFileSync(join(folder, "out/a.txt"), "utf8")).toBe("alpha");
    expect(readFileSync(join(folder, "out/lib/b.so"), "utf8")).toBe("b".repeat(700));
    expect(statSync(join(folder, "out/lib/b.so")).mode & 0o777).toBe(0o755);
  });

  it("replaces a folder that lacks what is wanted", async () => {
    await unpackBrotliTar(pack([tarEntry("old", "1")]), join(folder, "out"));
    await unpackBrotliTar(pack([tarEntry("new", "2")]), join(folder, "out"));
    expect(readdirSync(join(folder, "out"))).toEqual(["new"]);
  });

  it.each([
    ["leaves the folder", [tarEntry("../evil", "x")]],
    ["leaves the folder", [tarEntry("fine", "x"), tarEntry("/etc/evil", "x")]],
    ["is cut off", [tarEntry("long", "x", { size: 5000 })]],
    ["is cut off", [tarEntry("odd", "x", { size: Number.NaN })]],
  ])("refuses an entry that %s and leaves nothing behind", async (message, entries) => {
    const file = pack(entries);
    await expect(unpackBrotliTar(file, join(folder, "out"))).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining(message),
    });
    expect(readdirSync(folder)).toEqual(["packed.tar.br"]);
    expect(existsSync(join(folder, "../evil"))).toBe(false);
  });

  function pack(entries: Buffer[]): string {
    const file = join(folder, "packed.tar.br");
    const params = { [constants.BROTLI_PARAM_QUALITY]: 1 };
    writeFileSync(file, brotliCompressSync(Buffer.concat([...entries, Buffer.alloc(1024)]), { params }));
    return file;
  }
});

/** A ustar entry; `size` lies about the data's length. */
function tarEntry(name: string, text: string, options: { mode?: number; size?: number } = {}): Buffer {
  const { mode = 0o644, size = text.length } = options;
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write(mode.toString(8).padStart(7, "0"), 100);
  header.write(Number.isNaN(size) ? "zzz" : size.toString(8).padStart(11, "0"), 124);
  header.write("0", 156);
  header.write("ustar", 257);
  return Buffer.concat([header, Buffer.from(text), Buffer.alloc((512 - (text.length % 512)) % 512)]);
}
