import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { cacheFolder, findPackage, unpackBrotliTar } from "../../../src/gpu/drivers_node.ts";

/** How to start the Chromium of the browser tests. */
export interface ChromiumLaunch {
  readonly executablePath: string;
  readonly args: string[];
  readonly env: Record<string, string>;
}

/** Arguments for a quiet Chromium that gives WebGPU on SwiftShader. `--no-sandbox`: tests may run as root in a container. */
const QUIET_ARGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A tone instead of a microphone, and nobody to ask.
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];
// Without the watchdog, which takes a GPU that is a busy CPU for one that hangs, and ends it.
const WEBGPU_ARGS = ["--disable-gpu-watchdog", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/**
 * The Chromium inside `@sparticuz/chromium`, unpacked once per version into Heed's cache folder: the binary with
 * SwiftShader's libraries beside it (without them there is no adapter), and NSS where the machine lacks it. That package's
 * own unpacking takes any old copy that it finds in the temporary folder.
 */
export async function provideChromium(options: { webGpu: boolean } = { webGpu: true }): Promise<ChromiumLaunch> {
  const pack = findPackage("@sparticuz/chromium");
  if (!pack) throw new Error("the browser tests need @sparticuz/chromium: run `npm ci`");
  const folder = join(cacheFolder(), `chromium-${pack.version}`);
  const executablePath = join(folder, "chromium");
  if (!existsSync(executablePath)) await unpack(join(pack.folder, "bin"), folder);
  const env: Record<string, string> = { FONTCONFIG_FILE: join(folder, "fonts.conf") };
  const libraries = join(folder, "libraries", "lib");
  if (!starts(executablePath, {})) {
    env["LD_LIBRARY_PATH"] = [libraries, process.env["LD_LIBRARY_PATH"]].filter(Boolean).join(":");
    if (!starts(executablePath, env)) {
      throw new Error(`${executablePath} does not start on this machine, with and without ${libraries}`);
    }
  }
  return { executablePath, args: [...QUIET_ARGS, ...(options.webGpu ? WEBGPU_ARGS : [])], env };
}

/** A missing library ends the process before its first line. */
function starts(executablePath: string, env: Record<string, string>): boolean {
  return spawnSync(executablePath, ["--version"], { env: { ...process.env, ...env }, stdio: "ignore" }).status === 0;
}

async function unpack(archives: string, folder: string): Promise<void> {
  const temporary = `${folder}.${randomUUID()}`;
  try {
    await unpackBrotliTar(join(archives, "swiftshader.tar.br"), temporary);
    await unpackBrotliTar(join(archives, "al2023.tar.br"), join(temporary, "libraries"));
    await unpackBrotliTar(join(archives, "fonts.tar.br"), join(temporary, "fonts"));
    await mkdir(join(temporary, "font_cache"));
    await writeFile(join(temporary, "fonts.conf"), fontsConf(folder));
    const binary = await promisify(brotliDecompress)(await readFile(join(archives, "chromium.br")));
    await writeFile(join(temporary, "chromium"), binary, { mode: 0o755 });
    await rename(temporary, folder).catch((error: unknown) => {
      // A quicker process has put the same there.
      if (!existsSync(join(folder, "chromium"))) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** The package's fonts, and the system's where it has some: a bare machine has none at all. */
function fontsConf(folder: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${join(folder, "fonts")}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>${join(folder, "font_cache")}</cachedir>
</fontconfig>
`;
}
