import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test as base, expect, type Locator, type Page } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { findSoftwareGpus } from "../../../src/gpu/drivers_node.ts";
import { ROOT } from "../../support/built.ts";
import type { OpsPage } from "../ops_page/main.ts";
import { modelAsset } from "./model_asset.ts";
import { serveFolders, type StaticServer } from "./static_server.ts";

declare global {
  /** Set by ops_page/main.ts, for functions that a test evaluates there. */
  var opsPage: OpsPage;
}

/** The folder that the global setup has filled. */
export function browserFolder(): string {
  const folder = process.env["HEED_BROWSER_FOLDER"];
  if (!folder) throw new Error("the global setup has not run");
  return folder;
}

/** The checkpoint with random weights that is always there. */
export function tinyLlama(): string {
  return join(browserFolder(), "tiny_llama");
}

/** Tests of the built page, served below a sub-path, as on GitHub Pages. Every test fails on a broken policy or an uncaught error. */
export const test = base.extend<{ home: string; watched: undefined }, { server: StaticServer }>({
  server: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the names of the fixtures from a pattern
    async ({}, use) => {
      const folder = browserFolder();
      const { folder: stories260K = "" } = modelAsset("stories260K");
      const mounts = {
        "some-path": join(folder, "demo"),
        ops: join(folder, "ops"),
        tiny_llama: tinyLlama(),
        stories260K,
      };
      const server = await serveFolders(mounts);
      await use(server);
      await server.close();
    },
    { scope: "worker" },
  ],
  home: async ({ server }, use) => use(`${server.origin}/some-path/`),
  watched: [
    async ({ page }, use) => {
      const faults: string[] = [];
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("console", (message) => {
        if (/Content Security Policy/i.test(message.text())) faults.push(message.text());
      });
      await use(undefined);
      expect(faults).toEqual([]);
    },
    { auto: true },
  ],
});

/** What `heed <verb> --json` prints, as far as the tests read it. */
export interface NodeResult {
  text: string;
  ids: { prompt: number[]; generated: number[] };
  layers?: { layer: number; heads: { head: number; queries: { query: number; weights: number[] }[] }[] }[];
}

/** Runs `heed generate --json` on the SwiftShader that the browser has too. */
export function generateInNode(args: readonly string[]): Promise<NodeResult> {
  return runInNode(["generate", "--json", ...args]);
}

/** Runs a verb of `heed` on the SwiftShader that the browser has too. */
export function runInNode<T = NodeResult>(args: readonly string[]): Promise<T> {
  return onSwiftShader<T>([`${ROOT}/bin/heed.mjs`, ...args]);
}

/**
 * Runs the text of a module on the SwiftShader that the browser has too; what it prints is JSON. It finds Heed's entries by the constants
 * `NODE` and `TRAIN`, and `input` by that name.
 */
export function runModuleInNode<T>(code: string, input: unknown): Promise<T> {
  const entry = (name: string) => JSON.stringify(`${ROOT}/dist/${name}.mjs`);
  const head = `const NODE = ${entry("node")}, TRAIN = ${entry("train")}, input = ${JSON.stringify(input)};`;
  return onSwiftShader<T>(["--input-type=module", "-e", `${head}\n${code}`]);
}

async function onSwiftShader<T>(args: readonly string[]): Promise<T> {
  const gpu = (await findSoftwareGpus({ ...process.env, VK_DRIVER_FILES: "/nonexistent" })).at(-1);
  if (!gpu) throw new Error("the SwiftShader of @sparticuz/chromium is not there: run `npm ci`");
  const env = { ...process.env, ...gpu.environment };
  const child = spawn(process.execPath, args, { env });
  let out = "";
  let err = "";
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`node ${args.slice(0, 2).join(" ")} ended with ${code}: ${err}`);
  return JSON.parse(out) as T;
}

/** The tab of that name, after it is chosen. */
export async function openTab(page: Page, name: string): Promise<Locator> {
  await page.getByRole("tab", { name, exact: true }).click();
  return page.getByRole("tabpanel", { name });
}

/** What a click downloads, by file name. */
export async function downloadsOf(page: Page, button: Locator, count = 1): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const arrived = new Promise<void>((resolve) => {
    page.on("download", async (download) => {
      files.set(download.suggestedFilename(), readFileSync(await download.path()));
      if (files.size === count) resolve();
    });
  });
  await button.click();
  await arrived;
  page.removeAllListeners("download");
  return files;
}

/** What the JSON button gives, as far as the tests read it. */
export interface ShownHead {
  readonly weights: number[][];
  readonly queries: number[];
  readonly mask: object;
}

/** The weights of a head as the JSON button gives them. */
export async function shownWeights(page: Page, panel: Locator): Promise<ShownHead> {
  const [file = Buffer.of()] = (await downloadsOf(page, panel.getByRole("button", { name: "JSON" }))).values();
  return JSON.parse(file.toString()) as ShownHead;
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe calls serious or worse, one line each. */
export async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const { violations } = (await page.evaluate("axe.run(document)")) as AxeResults;
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`));
}

/** Expects that axe calls nothing serious, in light and in dark, and that nothing is wider than a phone. */
export async function expectAccessible(page: Page, state: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await seriousFindings(page), `${state}, ${colorScheme}`).toEqual([]);
  }
  await page.emulateMedia({ colorScheme: null });
  await expectToFit(page, state, [1280, 320, 1280]);
}

/** Expects that nothing is wider than a screen of each width: at once, before anything is drawn anew for it, and after. */
export async function expectToFit(page: Page, state: string, widths: readonly number[]): Promise<void> {
  for (const width of widths) {
    await page.setViewportSize({ width, height: 900 });
    const wide = await page.evaluate(async () => {
      const atOnce = document.documentElement.scrollWidth;
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return Math.max(atOnce, document.documentElement.scrollWidth);
    });
    expect(wide, `${state}, at ${width} pixels`).toBeLessThanOrEqual(width);
  }
}

/** Opens the page without the models of its own, and waits for its GPU, on the given tier. */
export async function openPage(page: Page, home: string, tier?: string): Promise<void> {
  await page.goto(`${home}#model=none`);
  const select = page.getByLabel("tier");
  await expect(select).toBeEnabled();
  if (tier && (await select.inputValue()) !== tier) {
    await select.selectOption(tier);
    await expect(page.getByText("Looking for a GPU…")).toBeHidden();
    await expect(select).toHaveValue(tier);
  }
}

/** Opens the page that has the public API and the cases of the op tests. */
export async function openOpsPage(page: Page, server: StaticServer): Promise<void> {
  await page.goto(`${server.origin}/ops/`);
  await page.waitForFunction(() => "opsPage" in globalThis);
}

/** Chooses a model's folder, as with the folder dialog, and waits until it is loaded. */
export async function chooseFolder(page: Page, folder: string): Promise<void> {
  await page.getByLabel("Folder of a model").setInputFiles(folder);
  await expect(page.getByTestId("model-name")).toBeVisible();
}

/** What to write: greedily, unless a seed is given. */
export interface WriteOptions {
  readonly prompt: string;
  readonly maxTokens: number;
  readonly seed?: number;
}

/** Fills in the form and starts. */
export async function startWriting(page: Page, { prompt, maxTokens, seed }: WriteOptions): Promise<void> {
  await page.getByLabel("Prompt").fill(prompt);
  await page.getByLabel("Max tokens").fill(String(maxTokens));
  const greedy = page.getByLabel(/Greedy/);
  if (seed === undefined) await greedy.check();
  else {
    await greedy.uncheck();
    await page.getByLabel("Seed").fill(String(seed));
  }
  await page.getByRole("button", { name: "Continue the text" }).click();
}

/** Writes to the end, and resolves with the text. */
export async function write(page: Page, options: WriteOptions): Promise<string> {
  await startWriting(page, options);
  await expect(page.getByTestId("status")).toHaveText(/Reached max tokens|ended the text|Stopped/, {
    timeout: 100_000,
  });
  return (await page.getByTestId("generated").textContent()) ?? "";
}

export { expect };
