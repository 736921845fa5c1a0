import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { chmod, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { HeedError } from "../core/errors.ts";
import { makeFolder } from "../core/make_folder_node.ts";

/** Environment variables, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One Vulkan driver, as its manifest file describes it. */
export interface VulkanDriver {
  /** The manifest (`lvp_icd.json`). */
  file: string;
  /** Who names it: the environment, the system's folders, or a copy that Heed unpacked. */
  origin: "environment" | "system" | "npm";
  /** True if the file exists. */
  present: boolean;
}

/** A way to give this machine an adapter: what to tell people, and the environment that does it. */
export interface SoftwareGpu {
  name: string;
  environment: Record<string, string>;
}

/** Both remedies where no adapter is found, in the words that every message uses. */
export const DRIVER_REMEDY =
  "Install a software driver with `apt install -t bookworm-backports mesa-vulkan-drivers` " +
  "or `npm i -D @sparticuz/chromium`, or your graphics card's Vulkan driver";

const SYSTEM_FOLDERS = ["/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"];
const SOFTWARE_DRIVER = /^(lvp_icd|vk_swiftshader_icd).*\.json$/;
// Debian's chromium package brings SwiftShader along, outside the loader's folders.
const CHROMIUM_DRIVERS = ["/usr/lib/chromium/vk_swiftshader_icd.json"];

/** The Vulkan drivers that the loader would consider under `environment`, in the loader's order. */
export function findDrivers(environment: Environment = process.env): VulkanDriver[] {
  const named = environment["VK_DRIVER_FILES"] || environment["VK_ICD_FILENAMES"];
  if (named) {
    const own = join(cacheFolder(environment), "swiftshader-");
    return named.split(delimiter).map((file) => ({
      file,
      origin: resolve(file).startsWith(own) ? "npm" : "environment",
      present: existsSync(file),
    }));
  }
  return systemManifests().map((file) => ({ file, origin: "system", present: true }));
}

/**
 * The software adapters to try, best first: the system's own, then the SwiftShader inside
 * `@sparticuz/chromium` where that package is installed. Drivers that the environment hides
 * (`VK_DRIVER_FILES` names something else) are left hidden. Empty where Vulkan is not used.
 */
export async function findSoftwareGpus(environment: Environment = process.env): Promise<SoftwareGpu[]> {
  if (process.platform !== "linux") return [];
  const found: SoftwareGpu[] = [];
  const swiftShader = await unpackSwiftShader(environment);
  // The unpacked folder holds a Vulkan loader too, for machines that have none.
  const libraries = [swiftShader?.folder, environment["LD_LIBRARY_PATH"]].filter(Boolean).join(":");
  const paths: Record<string, string> = libraries ? { LD_LIBRARY_PATH: libraries } : {};
  if (!environment["VK_DRIVER_FILES"] && !environment["VK_ICD_FILENAMES"]) {
    const candidates = [...systemManifests(), ...CHROMIUM_DRIVERS.filter((file) => existsSync(file))];
    for (const file of candidates) {
      if (!SOFTWARE_DRIVER.test(file.split("/").at(-1) ?? "")) continue;
      found.push({ name: `the system's software driver ${file}`, environment: { ...paths, VK_DRIVER_FILES: file } });
    }
  }
  if (swiftShader) {
    found.push({
      name: `SwiftShader from @sparticuz/chromium ${swiftShader.version}`,
      environment: { ...paths, VK_DRIVER_FILES: swiftShader.driver },
    });
  }
  return found;
}

/** Where Heed keeps what it unpacks: `HEED_CACHE`, else `heed` in the user's cache folder. */
export function cacheFolder(environment: Environment = process.env): string {
  if (environment["HEED_CACHE"]) return resolve(environment["HEED_CACHE"]);
  const home = environment["HOME"] || homedir();
  if (process.platform === "darwin") return join(home, "Library", "Caches", "heed");
  if (process.platform === "win32") return join(environment["LOCALAPPDATA"] ?? join(home, "AppData", "Local"), "heed");
  return join(environment["XDG_CACHE_HOME"] || join(home, ".cache"), "heed");
}

/**
 * The folder of an installed npm package, looked for beside Heed and in the working folder's project;
 * undefined if it is not installed.
 */
export function findPackage(name: string): { folder: string; version: string } | undefined {
  for (const from of [import.meta.url, join(process.cwd(), "package.json")]) {
    for (const modules of createRequire(from).resolve.paths(name) ?? []) {
      const manifest = join(modules, name, "package.json");
      if (!existsSync(manifest)) continue;
      const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
      return { folder: dirname(manifest), version };
    }
  }
  return undefined;
}

/** Unpacks SwiftShader and its Vulkan loader once per version; undefined if its package is not installed. */
async function unpackSwiftShader(
  environment: Environment,
): Promise<{ folder: string; driver: string; version: string } | undefined> {
  const pack = findPackage("@sparticuz/chromium");
  if (!pack || process.arch !== "x64") return undefined;
  const folder = join(cacheFolder(environment), `swiftshader-${pack.version}`);
  const wanted = ["libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"];
  if (!wanted.every((name) => existsSync(join(folder, name)))) {
    try {
      await unpackBrotliTar(join(pack.folder, "bin", "swiftshader.tar.br"), folder, wanted);
    } catch (cause) {
      if (cause instanceof HeedError) throw cause;
      const got = cause instanceof Error ? cause.message : String(cause);
      const remedy = "Set HEED_CACHE to a folder that can be written, or install another driver";
      throw new HeedError(
        "NO_ADAPTER",
        `device: SwiftShader has to be unpacked into ${folder}; got ${got}. ${remedy}.`,
        {
          cause,
        },
      );
    }
  }
  return { folder, driver: join(folder, "vk_swiftshader_icd.json"), version: pack.version };
}

/**
 * Unpacks a brotli-compressed tar file into `folder`, which appears complete or not at all. With
 * `names`, only those entries are written. Throws `BAD_FILE` if an entry is damaged or would lie
 * outside `folder`.
 */
export async function unpackBrotliTar(file: string, folder: string, names?: readonly string[]): Promise<void> {
  const tar = await promisify(brotliDecompress)(await readFile(file));
  const temporary = `${folder}.${randomUUID()}`;
  try {
    for (const entry of tarEntries(tar, file)) {
      if (names && !names.includes(entry.name)) continue;
      const target = resolve(temporary, entry.name);
      if (!target.startsWith(`${resolve(temporary)}/`)) throw badTar(file, `the entry ${entry.name} leaves the folder`);
      await makeFolder(dirname(target));
      await writeFile(target, entry.data);
      await chmod(target, entry.mode & 0o755);
    }
    await moveFolder(temporary, folder);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Puts a finished folder in place. Where a quicker process has put the same files there, those stay. */
async function moveFolder(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    const names = readdirSync(from, { recursive: true, encoding: "utf8" });
    if (names.every((name) => existsSync(join(to, name)))) return;
    const stale = `${to}.${randomUUID()}`;
    await rename(to, stale);
    await rename(from, to);
    await rm(stale, { recursive: true, force: true });
  }
}

/** The plain files of a ustar archive: 512-byte headers, data padded to 512 bytes. */
function* tarEntries(tar: Buffer, file: string): Generator<{ name: string; mode: number; data: Buffer }> {
  for (let at = 0; at + 512 <= tar.length; ) {
    const text = (from: number, length: number) =>
      tar.toString("latin1", at + from, at + from + length).replace(/\0.*$/s, "");
    const prefix = text(345, 155);
    const name = text(0, 100);
    if (name === "") return;
    const size = Number.parseInt(text(124, 12), 8);
    if (!Number.isSafeInteger(size) || at + 512 + size > tar.length) throw badTar(file, `the entry ${name} is cut off`);
    const type = text(156, 1);
    if (type === "" || type === "0") {
      const data = tar.subarray(at + 512, at + 512 + size);
      yield { name: prefix ? `${prefix}/${name}` : name, mode: Number.parseInt(text(100, 8), 8), data };
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

function badTar(file: string, what: string): HeedError {
  return new HeedError("BAD_FILE", `unpack: ${what} in ${file}. Reinstall the package that holds it.`);
}

function systemManifests(): string[] {
  return SYSTEM_FOLDERS.flatMap((folder) => {
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .filter((name) => name.endsWith(".json"))
      .sort()
      .map((name) => join(folder, name));
  });
}
