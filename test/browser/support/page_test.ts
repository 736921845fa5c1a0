import { spawn } from "node:child_process";
import { join } from "node:path";
import { test as base, expect, type Page } from "@playwright/test";
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
export async function runInNode(args: readonly string[]): Promise<NodeResult> {
  const gpu = (await findSoftwareGpus({ ...process.env, VK_DRIVER_FILES: "/nonexistent" })).at(-1);
  if (!gpu) throw new Error("the SwiftShader of @sparticuz/chromium is not there: run `npm ci`");
  const env = { ...process.env, ...gpu.environment };
  const child = spawn(process.execPath, [`${ROOT}/bin/heed.mjs`, ...args], { env });
  let out = "";
  let err = "";
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`heed ${args[0]} ended with ${code}: ${err}`);
  return JSON.parse(out) as NodeResult;
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
