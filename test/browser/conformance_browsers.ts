import { readdirSync } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { build } from "vite";
import { type CaseResult, caseLine, type ConformanceReport, closingLine } from "../../src/conformance/run.ts";
import type { Tier } from "../../src/index.ts";
import { ROOT } from "../support/built.ts";
import type { OpsPage } from "./ops_page/main.ts";
import { provideChromium } from "./support/chromium.ts";
import { findFirefox } from "./support/firefox.ts";
import { serveFolders } from "./support/static_server.ts";

const USAGE = `usage: npm run conformance:browsers [-- FOLDER] [options]
  FOLDER            vectors to run; without it, the cases of this repository
  --browser NAME    chromium or firefox alone
  --tier TIER       one tier alone
  --filter TEXT     the cases alone whose name contains this
  --no-shaders      leave out the op tests, which compile the shaders of tier core
  --verbose         a line for each case, not only for what failed or was skipped`;

/** Everything of one tier may take this long on a software GPU of two cores. */
const TIER_MS = 30 * 60_000;

interface Options {
  readonly folder?: string;
  readonly browser?: string;
  readonly tier?: string;
  readonly filter: string;
  readonly shaders: boolean;
  readonly verbose: boolean;
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
      for (const subject of SUBJECTS) {
        if (options.browser && options.browser !== subject.name) continue;
        add(total, await runBrowser(subject, server.origin, files, options));
      }
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

async function runBrowser(
  { name, launch, remedy }: Subject,
  origin: string,
  files: readonly { name: string; path: string }[],
  options: Options,
): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const browser = await launch();
  if (!browser) {
    console.log(`skipped ${name}: it is not installed (${remedy})`);
    return { ...counts, skipped: 1 };
  }
  try {
    console.log(`${name}: ${await browser.version()}`);
    const page = await browser.newPage();
    const tiers = await openPage(page, `${origin}/demo/conformance.html`);
    for (const tier of tiers) {
      if (options.tier && options.tier !== tier) continue;
      add(counts, await runTier(page, name, tier, files, options));
    }
    if (options.shaders && (!options.tier || options.tier === "core")) {
      add(counts, await runOps(page, name, `${origin}/ops/`, options));
    }
  } finally {
    await browser.close();
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

async function runTier(
  page: Page,
  browser: string,
  tier: Tier,
  files: readonly { name: string; path: string }[],
  { filter, verbose }: Options,
): Promise<Counts> {
  const chosen = files.filter(({ name }) => name.includes(filter));
  if (chosen.length > 0) {
    const handle = await page.waitForSelector("input#files");
    await handle?.uploadFile(...chosen.map(({ path }) => path));
  }
  await page.select("#tier", tier);
  const from = performance.now();
  await page.click("#run");
  await page.waitForFunction(
    () =>
      !(document.getElementById("run") as HTMLButtonElement).disabled && document.getElementById("status")?.textContent,
    { timeout: TIER_MS, polling: 500 },
  );
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

/** The op tests on tier core: they compile and run the shaders that the vectors do not reach. */
async function runOps(page: Page, browser: string, url: string, { verbose }: Options): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  await page.goto(url);
  await page.waitForFunction(() => "opsPage" in globalThis);
  await page.evaluate(watchPipelines);
  const from = performance.now();
  for (const file of readdirSync(`${ROOT}/test/ops`).filter((name) => name.endsWith(".cases.ts"))) {
    const results = await page.evaluate(
      (name) => (globalThis as unknown as { opsPage: OpsPage }).opsPage.run(name, "core"),
      file,
    );
    for (const { name, error } of results) {
      counts[error === undefined ? "passed" : "failed"] += 1;
      if (verbose || error !== undefined)
        console.log(`  ${error === undefined ? "passed" : "failed"} ${file} › ${name}${error ? `: ${error}` : ""}`);
    }
  }
  const compiled = new Set(await page.evaluate(() => [...(globalThis as unknown as WatchedPage).compiledKernels]));
  const kernels = readdirSync(`${ROOT}/shaders`)
    .filter((name) => name.endsWith(".wgsl"))
    .map((name) => basename(name, ".wgsl"));
  const missing = kernels.filter((kernel) => !compiled.has(kernel));
  const seconds = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`${browser}, op tests on tier core: ${closingLine(counts)} (${seconds} s)`);
  console.log(
    `${browser}: ${kernels.length - missing.length} of ${kernels.length} shaders compiled on tier core${missing.length > 0 ? `; not used there: ${missing.join(", ")}` : ""}`,
  );
  return counts;
}

interface WatchedPage {
  compiledKernels: Set<string>;
}

/** In the page: notes the kernel of each pipeline that compiles. */
function watchPipelines(): void {
  const compiledKernels = new Set<string>();
  Object.assign(globalThis, { compiledKernels });
  const create = GPUDevice.prototype.createComputePipelineAsync;
  GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
    const pipeline = await create.call(this, descriptor);
    compiledKernels.add((descriptor.label ?? "").replace(/\(.*$/s, ""));
    return pipeline;
  };
}

function add(total: Counts, { passed, failed, skipped }: Counts): void {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}
