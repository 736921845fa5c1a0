import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { chooseFolder, expect, openPage, test, tinyLlama, write } from "./support/page_test.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe calls serious or worse, one line each. */
async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const { violations } = (await page.evaluate("axe.run(document)")) as AxeResults;
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`));
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing serious, ${colorScheme}`, async ({ page, home }) => {
    await page.emulateMedia({ colorScheme });
    await openPage(page, home, "core");
    expect(await seriousFindings(page)).toEqual([]);
    await page
      .getByLabel("Files of a model")
      .setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") });
    await expect(page.getByRole("alert")).toBeVisible();
    expect(await seriousFindings(page)).toEqual([]);
    await chooseFolder(page, tinyLlama());
    await write(page, { prompt: "Once", maxTokens: 4 });
    expect(await seriousFindings(page)).toEqual([]);
  });
}

test("axe finds nothing serious on the conformance page", async ({ page, home }) => {
  await page.goto(`${home}conformance.html`);
  await page.getByLabel("Name contains").fill("softmax");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByTestId("status")).toHaveText(/passed/);
  expect(await seriousFindings(page)).toEqual([]);
  for (const width of [320, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
  }
});

test("nothing is wider than the screen, from 320 pixels on", async ({ page, home }) => {
  const expectToFit = async (state: string) => {
    for (const width of [320, 390, 768, 1280, 1920]) {
      await page.setViewportSize({ width, height: 800 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      expect(wide, `${state}, at ${width} pixels`).toBeLessThanOrEqual(width);
    }
  };
  await openPage(page, home, "core");
  await expectToFit("at the start");
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once", maxTokens: 4 });
  await expectToFit("with text");
});

test("the keyboard alone loads a model, writes and stops", async ({ page, home }) => {
  await openPage(page, home, "core");
  await page.getByLabel("or a Hub id, or a URL").focus();
  await page.keyboard.type(new URL("/tiny_llama/", home).href);
  await page.keyboard.press("Enter");
  await expect(page.getByTestId("model-name")).toBeVisible();
  await page.getByLabel("Prompt").focus();
  await page.keyboard.press("Control+Enter");
  await expect(page.getByRole("button", { name: "Stop" })).toBeFocused();
  await expect(page.getByTestId("generated")).not.toHaveText("");
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("status")).toContainText("Stopped.");
  await expect(page.getByLabel("Prompt")).toBeFocused();
});
