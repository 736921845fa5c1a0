// `npm run check`: style, types, dead code, the package's shape and the library's size. Prints one line a
// check, and a tool's own output only where it failed.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Each check: its title, a program from node_modules, its arguments, and the check that has to pass before it. */
const checks = [
  ["biome", "@biomejs/biome/bin/biome", ["check", "--error-on-warnings", "."]],
  ["types", "typescript/bin/tsc", ["--noEmit", "-p", "."]],
  // tsc does not look into .svelte files.
  ["svelte", "svelte-check/bin/svelte-check", ["--workspace", "demo", "--fail-on-warnings", "--output", "human"]],
  ["knip", "knip/bin/knip.js", ["--no-progress"]],
  ["build", "tsdown/dist/run.mjs", []],
  ["publint", "publint/src/cli.js", ["--strict"], "build"],
  ["size", "size-limit/bin.js", [], "build"],
];

const results = new Map();
for (const [title, program, args, needs] of checks) {
  results.set(title, start(title, program, args, needs));
}
const passed = await Promise.all(results.values());
process.exitCode = passed.every(Boolean) ? 0 : 1;

async function start(title, program, args, needs) {
  if (needs && !(await results.get(needs))) {
    console.log(`- ${title}: left out, as ${needs} failed`);
    return false;
  }
  const from = performance.now();
  const { code, output } = await run(`${root}node_modules/${program}`, args);
  const seconds = ((performance.now() - from) / 1000).toFixed(1);
  console.log(`${code === 0 ? "✓" : "✗"} ${title} (${seconds} s)`);
  if (code !== 0) console.log(output.trimEnd());
  return code === 0;
}

function run(program, args) {
  const child = spawn(process.execPath, [program, ...args], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output += text;
    });
  }
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}
