// `npm test`: the Vitest tests, then the browser tests, and as the last line the counts of both.
// `npm test -- test/ops` passes its arguments to Vitest and leaves the browser out.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const reports = mkdtempSync(join(tmpdir(), "heed-test-"));
const argv = process.argv.slice(2);

// Dawn's notes on limits that it lowers itself say nothing about Heed.
const NOISE = /^Warning: max\w+ artificially reduced/;

const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
try {
  await runVitest();
  if (argv.length === 0) await runPlaywright();
} finally {
  rmSync(reports, { recursive: true, force: true });
}
// Once more where the long output ends, for whoever sees its tail alone.
for (const line of failures) console.log(`failed: ${line}`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;

async function runVitest() {
  const report = join(reports, "vitest.json");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const code = await run("node_modules/vitest/vitest.mjs", ["run", ...reporters, ...argv]);
  const result = readReport(report);
  if (!result) return count({ failed: 1 });
  // A file that fails before its first test has no failed test to show for it.
  const broken = result.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  ).length;
  for (const file of result.testResults) {
    if (file.status === "failed" && file.message) noteFailure(file.name, "", file.message);
    for (const { status, fullName, failureMessages } of file.assertionResults) {
      if (status === "failed") noteFailure(file.name, fullName, failureMessages[0]);
    }
  }
  const failed = result.numFailedTests + broken;
  count({ passed: result.numPassedTests, failed, skipped: result.numPendingTests + result.numTodoTests });
  if (code !== 0 && failed === 0) count({ failed: 1 });
}

async function runPlaywright() {
  const folder = join(root, "test/browser");
  const specs =
    existsSync(folder) && readdirSync(folder, { recursive: true }).some((name) => /\.spec\.ts$/.test(`${name}`));
  if (!specs) return;
  const report = join(reports, "playwright.json");
  const env = { PLAYWRIGHT_JSON_OUTPUT_NAME: report };
  const code = await run("node_modules/@playwright/test/cli.js", ["test", "--reporter=list,json"], env);
  const result = readReport(report);
  if (!result) return count({ failed: 1 });
  const { expected, unexpected, flaky, skipped } = result.stats;
  for (const { file, title, ok, tests } of result.suites.flatMap(specsOf)) {
    if (!ok) noteFailure(join("test/browser", file), title, tests[0]?.results.at(-1)?.error?.message);
  }
  for (const { message } of result.errors ?? []) noteFailure("playwright", "", message);
  const failed = unexpected + (result.errors?.length ?? 0);
  count({ passed: expected + flaky, failed, skipped });
  if (code !== 0 && failed === 0) count({ failed: 1 });
}

function specsOf({ specs = [], suites = [] }) {
  return [...specs, ...suites.flatMap(specsOf)];
}

function noteFailure(file, test, message = "") {
  const why = stripVTControlCharacters(message).split("\n").slice(0, 3).join(" ").slice(0, 400);
  failures.push([relative(root, resolve(root, file)), test, why].filter((part) => part !== "").join(" › "));
}

/** Runs one of our programs with the terminal's streams, less the noise, and resolves with its exit code. */
function run(program, args, env = {}) {
  const child = spawn(process.execPath, [join(root, program), ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "pipe"],
  });
  createInterface({ input: child.stderr }).on("line", (line) => {
    if (!NOISE.test(line)) process.stderr.write(`${line}\n`);
  });
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

function readReport(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
}

function count({ passed = 0, failed = 0, skipped = 0 }) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}
