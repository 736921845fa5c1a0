// `npm run conformance -- FOLDER`: builds dist/ if it is older than the sources, then runs `heed conformance`.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

if (isStale()) {
  process.stderr.write("heed: building dist/ …\n");
  const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined };
  const options = { cwd: root, encoding: "utf8", env };
  const built = spawnSync(process.execPath, [`${root}node_modules/tsdown/dist/run.mjs`], options);
  if (built.status !== 0) {
    process.stderr.write(`heed: the build failed.\n${built.stdout ?? ""}${built.stderr ?? ""}`);
    process.exit(1);
  }
}
const command = [`${root}bin/heed.mjs`, "conformance", ...process.argv.slice(2)];
process.exitCode = spawnSync(process.execPath, command, { stdio: "inherit" }).status ?? 1;

function isStale() {
  const built = `${root}dist/cli.mjs`;
  if (!existsSync(built)) return true;
  const sources = ["src", "shaders"].flatMap((folder) =>
    readdirSync(root + folder, { recursive: true }).map((name) => `${root}${folder}/${name}`),
  );
  return Math.max(...sources.map((file) => statSync(file).mtimeMs)) > statSync(built).mtimeMs;
}
