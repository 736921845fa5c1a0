import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Locator, Page } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { ROOT } from "../support/built.ts";
import { chooseFolder, expect, openPage, runInNode, test, tinyLlama, write } from "./support/page_test.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SENTENCE = "我是一名工程师";

/** The tab of that name, after it is chosen. */
async function openTab(page: Page, name: string): Promise<Locator> {
  await page.getByRole("tab", { name, exact: true }).click();
  return page.getByRole("tabpanel", { name });
}

/** What a click downloads, as JSON. */
async function downloadedJson(page: Page, button: Locator): Promise<{ weights: number[][]; queries: number[] }> {
  const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
  return JSON.parse(readFileSync(await download.path(), "utf8")) as { weights: number[][]; queries: number[] };
}

test("opens with the models that come with it, translates as Node does, and goes on without a network", async ({
  page,
  home,
  context,
}) => {
  await page.goto(`${home}#tab=translate`);
  const panel = page.getByRole("tabpanel", { name: "Translate" });
  await panel.getByRole("button", { name: "Translate it" }).click({ timeout: 60_000 });
  const node = await runInNode(["translate", "--json", SENTENCE]);
  await expect(panel.getByTestId("translation")).toHaveText(node.text);
  expect(node.text).toBe("I am an engineer.");

  // From [begin] to [end], a token at a time, each with what the decoder chose from.
  await panel.getByRole("button", { name: "From the beginning" }).click();
  await expect(panel.getByTestId("candidates")).toHaveCount(0);
  await panel.getByRole("button", { name: "Next step" }).click();
  await expect(panel.getByTestId("candidates").getByRole("listitem")).toHaveCount(10);
  await panel.getByRole("button", { name: "Hard attention" }).click();
  await expect(panel.getByTestId("translation")).toHaveAttribute("aria-busy", "false");
  const hard = await downloadedJson(page, panel.getByRole("button", { name: "JSON" }));
  for (const row of hard.weights) expect([...row].sort().at(-1)).toBe(1);

  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    // The worker has kept everything once its list is in the cache.
    const kept = async () =>
      (await (await caches.open("heed-page")).keys()).some(({ url }) => url.endsWith("zh_en/model.safetensors"));
    while (!(await kept())) await new Promise((resolve) => setTimeout(resolve, 100));
  });
  await context.setOffline(true);
  await page.reload();
  await panel.getByRole("button", { name: "Translate it" }).click({ timeout: 60_000 });
  await expect(panel.getByTestId("translation")).toHaveText("I am an engineer.");
  await context.setOffline(false);
});

test("shows the attention that Node computes, and what changes when a head is off", async ({ page, home }) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once upon", maxTokens: 6 });
  const panel = page.getByRole("tabpanel", { name: "Write" });
  await expect(panel.getByTestId("tokens-list").getByRole("button")).not.toHaveCount(0);
  await panel.locator('[data-head="1.2"]').click();
  await expect(panel.getByTestId("head-name")).toHaveText("Layer 1, head 2");
  const shown = await downloadedJson(page, panel.getByRole("button", { name: "JSON" }));
  const text = `Once upon${await page.getByTestId("generated").textContent()}`;
  const node = await runInNode([
    "inspect",
    "--json",
    "--tier",
    "core",
    "--layers",
    "1",
    "--heads",
    "2",
    "--model",
    tinyLlama(),
    text,
  ]);
  const rows = node.layers?.[0]?.heads[0]?.queries.map(({ weights }) => weights) ?? [];
  expect(rows.length).toBe(shown.weights.length);
  for (const [query, row] of shown.weights.entries()) {
    for (const [key, weight] of row.slice(0, query + 1).entries()) {
      expect(Math.abs(weight - (rows[query]?.[key] ?? -1))).toBeLessThan(1e-4);
    }
  }

  for (const [view, found] of [
    ["Lines", panel.getByRole("img", { name: /Lines from each query/ })],
    ["Table", panel.getByRole("table")],
    ["Three steps", panel.getByTestId("three-steps")],
    ["Map", panel.getByTestId("head-map")],
  ] as const) {
    await panel.getByRole("button", { name: view, exact: true }).click();
    await expect(found).toBeVisible();
  }
  await panel.getByTestId("head-map").focus();
  await page.keyboard.press("ArrowDown");
  await expect(panel.getByTestId("pair")).toContainText("the weight");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await expect(panel.getByTestId("pair")).toContainText("the mask hides it");

  await panel.getByLabel("This head is on").uncheck();
  await expect(panel.getByTestId("changed")).toBeVisible();
  await panel.getByLabel("This head is on").check();
  await expect(panel.getByTestId("changed")).toBeHidden();
});

test("goes on a token at a time, and from a token that a person chose", async ({ page, home }) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once", maxTokens: 2 });
  const tokens = page.getByTestId("tokens-list").getByRole("button");
  const before = await tokens.count();
  await page.getByRole("button", { name: "One token" }).click();
  await expect(tokens).toHaveCount(before + 1);
  const second = page.getByTestId("candidates").getByRole("button").nth(1);
  const chosen = await second.locator(".token").textContent();
  await second.click();
  await expect(tokens).toHaveCount(before + 3);
  const text = (await tokens.nth(before + 1).textContent()) ?? "";
  expect(text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥")).toBe(chosen);
  await tokens.nth(before).click();
  await expect(tokens).toHaveCount(before);
});

test("teaches a model from zero, shows its attention before and after, and writes with it", async ({ page, home }) => {
  await openPage(page, home, "core");
  const panel = await openTab(page, "Teach");
  await panel.getByLabel(/Text to learn/).fill("the cat sat on the mat. the dog sat on the log. ".repeat(10));
  await panel.getByLabel("Updates").fill("12");
  await panel.getByRole("button", { name: "Teach", exact: true }).click();
  await expect(panel.getByTestId("teach-status")).toContainText("Update 12 of 12", { timeout: 100_000 });
  await expect(panel.getByTestId("head-grid")).toHaveCount(2);
  await expect(panel.getByTestId("teach-sample")).not.toHaveText("");
  await panel.getByRole("button", { name: "Write with it" }).click();
  await expect(page.getByTestId("model-name")).toHaveText("taught here");
  expect(await write(page, { prompt: "the ", maxTokens: 5 })).toHaveLength(5);
});

test("keeps its state in the address, speaks Chinese, and holds two pages at once", async ({ page, home, context }) => {
  await page.goto(
    `${home}#model=none&tab=read&lang=zh&prompt=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&seed=7&layer=1&head=2`,
  );
  await expect(page.getByRole("tab", { name: "阅读" })).toHaveAttribute("aria-selected", "true");
  await expect(page.locator("html")).toHaveAttribute("lang", "zh-Hans");
  await page.getByRole("tab", { name: "写作" }).click();
  await expect(page.getByLabel("提示")).toHaveValue("<img src=x onerror=alert(1)>");
  await expect(page).toHaveURL(/tab=write.*lang=zh.*seed=7.*layer=1.*head=2/);
  await page.getByRole("button", { name: "English" }).click();
  await expect(page.getByRole("tab", { name: "Write" })).toBeVisible();
  const second = await context.newPage();
  await openPage(second, home, "core");
  await Promise.all([chooseFolder(page, tinyLlama()), chooseFolder(second, tinyLlama())]);
  const options = { prompt: "Once upon a time", maxTokens: 12 };
  const [one, two] = await Promise.all([write(page, options), write(second, options)]);
  expect(one).toBe(two);
});

test("checks its device", async ({ page, home }) => {
  await openPage(page, home, "core");
  const panel = await openTab(page, "This device");
  await panel.getByRole("button", { name: "Measure the speed" }).click();
  await expect(panel.getByTestId("speed")).toContainText("GFLOP/s");
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing serious in any tab, ${colorScheme}; nothing is wider than a phone`, async ({
    page,
    home,
  }) => {
    await page.emulateMedia({ colorScheme });
    await openPage(page, home, "core");
    await page.evaluate(axe);
    for (const name of ["Write", "Translate", "Read", "Listen", "Teach", "This device"]) {
      await openTab(page, name);
      const { violations } = (await page.evaluate("axe.run(document)")) as AxeResults;
      const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      expect(serious.map(({ id, nodes }) => `${name}: ${id}: ${nodes[0]?.html}`)).toEqual([]);
      for (const width of [320, 1280]) {
        await page.setViewportSize({ width, height: 800 });
        expect(await page.evaluate(() => document.documentElement.scrollWidth), name).toBeLessThanOrEqual(width);
      }
    }
  });
}

/** Pictures for the README and for whoever looks after the page; `HEED_SCREENSHOTS=1` writes them again. */
test("looks as in its pictures", async ({ page, home }) => {
  test.skip(!process.env["HEED_SCREENSHOTS"], "HEED_SCREENSHOTS is not set");
  test.setTimeout(600_000);
  const folder = join(ROOT, "demo/screenshots");
  await page.goto(home);
  await expect(page.getByTestId("model-name")).toBeVisible({ timeout: 60_000 });
  await page.getByLabel("Prompt").fill("ROMEO:");
  await page.getByLabel("Seed").fill("3");
  await page.getByLabel("Max tokens").fill("24");
  await page.getByRole("button", { name: "Continue the text" }).click();
  await expect(page.getByTestId("tokens-list")).toBeVisible({ timeout: 60_000 });
  const shoot = async (name: string) => {
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      await page.screenshot({ path: join(folder, `${name}-${width}.png`), fullPage: true });
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  };
  await shoot("write");
  const translate = await openTab(page, "Translate");
  await translate.getByRole("button", { name: "Translate it" }).click();
  await expect(translate.getByTestId("translation-steps")).toBeVisible({ timeout: 60_000 });
  await shoot("translate");
  const teach = await openTab(page, "Teach");
  await teach.getByLabel(/Text to learn/).fill("the cat sat on the mat. the dog sat on the log. ".repeat(20));
  await teach.getByLabel("Updates").fill("60");
  await teach.getByRole("button", { name: "Teach", exact: true }).click();
  await expect(teach.getByRole("button", { name: "Write with it" })).toBeVisible({ timeout: 300_000 });
  await shoot("teach");
  for (const name of ["Read", "Listen", "This device"]) {
    await openTab(page, name);
    await shoot(name.toLowerCase().replace(/ /g, "-"));
  }
});
