#!/usr/bin/env node
// The command `heed`. Plain JavaScript, so that it runs in a clone that was never built.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const built = new URL("../dist/cli.mjs", import.meta.url);

if (!existsSync(built)) build();
await import(built.href);

/** Builds library and command line once; only a clone gets here, a package from npm holds dist/. */
function build() {
  process.stderr.write("heed: first run in this clone, building dist/ …\n");
  let tsdown;
  try {
    tsdown = createRequire(import.meta.url).resolve("tsdown/run");
  } catch {
    fail("the build needs its development packages, and tsdown is missing. Run `npm ci` in the clone first.");
  }
  const run = spawnSync(process.execPath, [tsdown], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
  });
  if (run.status !== 0 || !existsSync(built)) fail(`the build failed.\n${run.stdout ?? ""}${run.stderr ?? ""}`);
}

/** @param {string} message */
function fail(message) {
  process.stderr.write(`heed: ${message}\n`);
  process.exit(1);
}
