import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const LOCK = `${ROOT}/node_modules/.heed_build_lock`;

/** Builds dist/ if it is missing or older than the sources; test files that run side by side build it once. */
export async function ensureBuilt(): Promise<void> {
  for (let waitedMs = 0; isStale(); waitedMs += 200) {
    if (waitedMs > 120_000) throw new Error(`the build did not finish; if nothing builds, remove ${LOCK}`);
    if (tryLock()) {
      try {
        execFileSync(process.execPath, [`${ROOT}/node_modules/tsdown/dist/run.mjs`], { cwd: ROOT, stdio: "pipe" });
      } finally {
        rmSync(LOCK, { recursive: true, force: true });
      }
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function tryLock(): boolean {
  try {
    mkdirSync(LOCK);
    return true;
  } catch {
    return false;
  }
}

function isStale(): boolean {
  if (existsSync(LOCK)) return true;
  const built = `${ROOT}/dist/cli.mjs`;
  if (!existsSync(built)) return true;
  const sources = ["src", "shaders"].flatMap((folder) =>
    readdirSync(`${ROOT}/${folder}`, { recursive: true, encoding: "utf8" }).map((name) => `${ROOT}/${folder}/${name}`),
  );
  const newest = Math.max(...[...sources, `${ROOT}/tsdown.config.ts`].map((file) => statSync(file).mtimeMs));
  return newest > statSync(built).mtimeMs;
}
