import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { build } from "vite";
import { type CaseResult, caseLine, type ConformanceReport, closingLine } from "../../src/conformance/run.ts";
import type { Tier } from "../../src/index.ts";
import { ROOT } from "../support/built.ts";
import { provideChromium } from "./support/chromium.ts";
import { type CompiledShader, collectShaders, compileShaders, watchShaders } from "./support/compiled_shaders.ts";
import type { CaseResult as CaseResultOfOps } from "./ops_page/main.ts";
import { findFirefox } from "./support/firefox.ts";
import { serveFolders } from "./support/static_server.ts";

const USAGE = `usage: npm run conformance:browsers [-- FOLDER] [options]
  FOLDER            vectors to run; without it, the cases of this repository
  --browser NAME    chromium or firefox alone
  --tier TIER       one tier alone
  --filter TEXT     the cases and op tests alone whose name contains this
  --no-shaders      leave out the op tests, and compiling in each browser what either has compiled on tier core
  --verbose         a line for each case, not only for what failed or was skipped`;

/** Everything of one tier may take this long on a software GPU of two cores. */
const TIER_MS = 30 * 60_000;
const MINUTE_MS = 60_000;

/** What the text of a kernel has that runs where there are subgroups, and nowhere else. */
const NEEDS_SUBGROUPS = /subgroup(_invocation_id|_size|[A-Z]\w*\()/;

interface Options {
  readonly folder?: string;
  readonly browser?: string;
  readonly tier?: string;
  readonly filter: string;
  readonly shaders: boolean;
  readonly verbose: boolean;
}

/** What each browser has compiled, by the browser's name and the shader's label. */
type ShadersOf = Map<string, Map<string, CompiledShader>>;

/** What every browser gets to do. */
interface Work {
  readonly origin: string;
  readonly files: readonly { readonly name: string; readonly path: string }[];
  readonly options: Options;
  readonly shaders: ShadersOf;
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Subject {
  readonly name: string;
  /** Undefined where the browser is not installed. */
  launch(): Promise<Browser | undefined>;
  readonly remedy: string;
}

/** Chromium with its own SwiftShader, and Firefox on the system's driver: two implementations of WebGPU, two shader compilers. */
const SUBJECTS: readonly Subject[] = [
  { name: "chromium", launch: launchChromium, remedy: "run `npm ci`" },
  { name: "firefox", launch: launchFirefox, remedy: "install firefox-esr, or name one by HEED_FIREFOX" },
];

const PAGE = "/demo/conformance.html";

/** Runs the conformance page in each browser on each of its tiers, prints counts, and resolves with the exit code. */
export async function conformanceBrowsers(argv: readonly string[]): Promise<number> {
  const options = optionsOf(argv);
  if (!options) return 2;
  const files = await vectorFiles(options.folder);
  const folder = await mkdtemp(join(tmpdir(), "heed-conformance-"));
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  try {
    await buildPages(folder, options);
    const server = await serveFolders({ demo: join(folder, "demo"), ops: join(folder, "ops") });
    try {
      const chosen = SUBJECTS.filter(({ name }) => !options.browser || options.browser === name);
      const shaders: ShadersOf = new Map();
      for (const subject of chosen) {
        add(total, await runBrowser(subject, { origin: server.origin, files, options, shaders }));
      }
      if (options.shaders)
        add(total, await exchangeShaders(chosen, { shaders, origin: server.origin, filter: options.filter }));
    } finally {
      await server.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  console.log(closingLine(total));
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

function optionsOf(argv: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      allowNegative: true,
      options: {
        browser: { type: "string" },
        tier: { type: "string" },
        filter: { type: "string", default: "" },
        shaders: { type: "boolean", default: true },
        verbose: { type: "boolean", default: false },
      },
    });
    const known = !values.browser || SUBJECTS.some(({ name }) => name === values.browser);
    if (positionals.length <= 1 && known) return { folder: positionals[0], ...values };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
  console.error(USAGE);
  return undefined;
}

/** The cases of a folder, by their path in it; none without a folder, when the page takes its own. */
async function vectorFiles(folder: string | undefined): Promise<{ name: string; path: string }[]> {
  if (folder === undefined) return [];
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) throw new Error(`there is no folder ${folder}`);
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json"));
  if (names.length === 0) throw new Error(`${folder} holds no cases (.json)`);
  return names.sort().map((name) => ({ name, path: join(folder, name) }));
}

async function buildPages(folder: string, { shaders }: Options): Promise<void> {
  const shared = { configFile: `${ROOT}/vite.config.ts`, logLevel: "error" as const };
  await build({ ...shared, build: { outDir: join(folder, "demo") } });
  if (!shaders) return;
  await build({ ...shared, root: `${ROOT}/test/browser/ops_page`, build: { outDir: join(folder, "ops") } });
}

async function launchChromium(): Promise<Browser | undefined> {
  const { executablePath, args, env } = await provideChromium();
  return puppeteer.launch({ executablePath, args, env: { ...process.env, ...env }, protocolTimeout: TIER_MS });
}

async function launchFirefox(): Promise<Browser | undefined> {
  const found = await findFirefox();
  if (!found) return undefined;
  const { executablePath, prefs, env } = found;
  return puppeteer.launch({
    browser: "firefox",
    executablePath,
    extraPrefsFirefox: prefs,
    env: { ...process.env, ...env },
    protocolTimeout: TIER_MS,
  });
}

async function runBrowser({ name, launch, remedy }: Subject, work: Work): Promise<Counts> {
  const { origin, options } = work;
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const browser = await launch();
  if (!browser) {
    console.log(`skipped ${name}: it is not installed (${remedy})`);
    return { ...counts, skipped: 1 };
  }
  try {
    console.log(`${name}: ${await browser.version()}`);
    const page = await browser.newPage();
    const compiled = new Map<string, CompiledShader>();
    const tiers = await openPage(page, `${origin}${PAGE}`);
    if (options.tier && !tiers.includes(options.tier as Tier)) {
      console.log(`skipped ${name}: it has no tier ${options.tier}`);
      return { ...counts, skipped: 1 };
    }
    await watchShaders(page);
    for (const tier of tiers) {
      if (!options.tier || options.tier === tier) add(counts, await runTier(page, name, tier, work));
    }
    await collectShaders(page, compiled);
    if (options.shaders) {
      add(counts, await runOps(page, name, work));
      await collectShaders(page, compiled);
    }
    work.shaders.set(name, compiled);
  } finally {
    await browser.close();
  }
  return counts;
}

/** Compiles in each browser what the others have compiled on tier core: kernels differ by adapter, and have to compile everywhere. */
async function exchangeShaders(
  subjects: readonly Subject[],
  { shaders, origin, filter }: { shaders: ShadersOf; origin: string; filter: string },
): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const all = new Map([...shaders.values()].flatMap((own) => [...own]));
  for (const { name, launch } of subjects) {
    const own = shaders.get(name);
    const browser = own && (await launch());
    if (!own || !browser) continue;
    try {
      const page = await browser.newPage();
      await page.goto(`${origin}${PAGE}`);
      const others = [...all.values()].filter(({ label }) => !own.has(label));
      const failures = await compileShaders(page, others);
      for (const failure of failures) console.log(`  failed ${failure}`);
      add(counts, { passed: others.length - failures.length, failed: failures.length, skipped: 0 });
      const compiled = all.size - failures.length;
      console.log(
        `${name}: ${compiled} of ${all.size} shader variants compile on tier core, ${own.size} of them in use`,
      );
    } finally {
      await browser.close();
    }
  }
  const used = new Set([...all.values()].map(({ label }) => label.replace(/\(.*$/s, "")));
  const kernels = readdirSync(`${ROOT}/shaders`).flatMap((name) => /^(.*)\.wgsl$/.exec(name)?.[1] ?? []);
  const rest = kernels.filter((kernel) => !used.has(kernel));
  const needing = rest.filter((kernel) => NEEDS_SUBGROUPS.test(readFileSync(`${ROOT}/shaders/${kernel}.wgsl`, "utf8")));
  const left = rest.filter((kernel) => !needing.includes(kernel));
  console.log(
    `tier core: ${kernels.length - rest.length} of ${kernels.length} kernels; ${needing.join(", ")} are for subgroups alone`,
  );
  // With a filter or one browser's own kernels alone there is no saying.
  if (left.length > 0 && !filter && shaders.size === SUBJECTS.length) {
    console.log(`  failed tier core: no case compiles ${left.join(", ")}`);
    counts.failed += 1;
  }
  return counts;
}

/** Opens the page, and resolves with the tiers that it offers. */
async function openPage(page: Page, url: string): Promise<Tier[]> {
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById("status")?.textContent !== "Looking for a GPU…");
  const { error, tiers } = await page.evaluate(() => ({
    error: document.getElementById("error")?.textContent ?? "",
    tiers: [...document.querySelectorAll<HTMLOptionElement>("#tier option:enabled")].map((option) => option.value),
  }));
  if (error) throw new Error(error);
  return tiers as Tier[];
}

async function runTier(page: Page, browser: string, tier: Tier, { files, options }: Work): Promise<Counts> {
  const { filter, verbose } = options;
  const chosen = files.filter(({ name }) => name.includes(filter));
  if (files.length > 0 && chosen.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  if (chosen.length > 0) {
    // Chosen as files: not every browser lets a driver choose a folder.
    const handle = await page.waitForSelector("input#files");
    await handle?.uploadFile(...chosen.map(({ path }) => path));
  } else {
    await page.locator("#filter").fill(filter);
  }
  await page.select("#tier", tier);
  const from = performance.now();
  await page.click("#run");
  await untilDone(page, `${browser}, tier ${tier}`);
  const { json, error } = await page.evaluate(() => ({
    json: (document.getElementById("report") as HTMLTextAreaElement).value,
    error: document.getElementById("error")?.textContent ?? "",
  }));
  if (!json) throw new Error(`${browser} on tier ${tier}: ${error || "the page gave no report"}`);
  const report = JSON.parse(json) as ConformanceReport;
  report.cases.forEach((result, i) => {
    // The page sees files without their folder: their paths are known here.
    const named: CaseResult = { ...result, name: chosen[i]?.name.replace(/\.json$/i, "") ?? result.name };
    if (verbose || result.status !== "passed") console.log(`  ${caseLine(named)}`);
  });
  const seconds = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`${browser}, tier ${tier}: ${closingLine(report)} (${seconds} s)`);
  return report;
}

/** Waits until the page has run all that it was given, and says every minute how far it is. */
async function untilDone(page: Page, what: string): Promise<void> {
  const until = performance.now() + TIER_MS;
  for (let told = performance.now(); ; ) {
    const { status, running } = await page.evaluate(() => ({
      status: document.getElementById("status")?.textContent ?? "",
      running: (document.getElementById("run") as HTMLButtonElement).disabled,
    }));
    if (!running && status) return;
    if (performance.now() > until) throw new Error(`${what}: not done after ${TIER_MS / 60_000} minutes; ${status}`);
    if (performance.now() > told + MINUTE_MS) {
      console.log(`  ${what}: ${status}`);
      told = performance.now();
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The op tests and the self test on tier core: they compile and run the shaders that the vectors do not reach. */
async function runOps(page: Page, browser: string, { origin, options }: Work): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const note = (file: string, results: readonly CaseResultOfOps[]) => {
    for (const { name, error } of results) {
      counts[error === undefined ? "passed" : "failed"] += 1;
      if (error !== undefined) console.log(`  failed ${file} › ${name}: ${error}`);
      else if (options.verbose) console.log(`  passed ${file} › ${name}`);
    }
  };
  await page.goto(`${origin}/ops/`);
  await page.waitForFunction(() => "opsPage" in globalThis);
  await watchShaders(page);
  const from = performance.now();
  for (const file of readdirSync(`${ROOT}/test/ops`).filter((name) => name.endsWith(".cases.ts"))) {
    const run = (name: string, match: string) => globalThis.opsPage.run(name, "core", match);
    note(file, await page.evaluate(run, file, options.filter));
  }
  if (!options.filter) note("self test", await page.evaluate(() => globalThis.opsPage.selfTest("core")));
  await page.evaluate(() => globalThis.opsPage.probe("core"));
  const seconds = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`${browser}, op tests on tier core: ${closingLine(counts)} (${seconds} s)`);
  return counts;
}

function add(total: Counts, { passed, failed, skipped }: Counts): void {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}
