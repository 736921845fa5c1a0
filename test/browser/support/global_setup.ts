import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "vite";
import { ensureBuilt, ROOT } from "../../support/built.ts";

/**
 * Builds the page as it is published, the page of the op tests, and the command line that tells what Node computes; writes a
 * checkpoint; tells the tests where all of it is. Returns what removes it.
 */
export default async function globalSetup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "heed-browser-"));
  const model = join(folder, "tiny_llama");
  execFileSync(process.execPath, [`${ROOT}/test/fixtures/write_tiny_llama.mjs`, model], { stdio: "pipe" });
  await ensureBuilt();
  const shared = { configFile: `${ROOT}/vite.config.ts`, logLevel: "warn" as const };
  await build({ ...shared, build: { outDir: join(folder, "demo") } });
  await build({ ...shared, root: `${ROOT}/test/browser/ops_page`, build: { outDir: join(folder, "ops") } });
  process.env["HEED_BROWSER_FOLDER"] = folder;
  return () => rm(folder, { recursive: true, force: true });
}
