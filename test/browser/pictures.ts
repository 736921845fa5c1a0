// Pictures for the README and for whoever looks after the page: `HEED_SCREENSHOTS=1 npx playwright test` writes them again.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { ROOT } from "../support/built.ts";
import { animatedPng } from "./support/apng.ts";
import { modelAsset } from "./support/model_asset.ts";
import { chooseFolder, expect, openTab, test } from "./support/page_test.ts";

const FOLDER = join(ROOT, "demo/screenshots");
/** Pictures of the animation. */
const FRAMES = 9;
const SCHEMES = ["light", "dark"] as const;

test.describe.configure({ timeout: 900_000 });

/** Both widths, light and dark; the dark ones are looked at and not kept. */
async function shoot(page: Page, name: string): Promise<void> {
  const dark = join(ROOT, "node_modules/.cache/pictures");
  mkdirSync(dark, { recursive: true });
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      // Canvases are drawn anew for their width.
      await page.waitForTimeout(300);
      const folder = colorScheme === "light" ? FOLDER : dark;
      await page.screenshot({ path: join(folder, `${name}-${width}.png`), fullPage: true, animations: "disabled" });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}

async function idle(page: Page): Promise<void> {
  await expect(page.getByRole("button", { name: "One token" })).toBeEnabled();
}

test("each tab", async ({ page, home }) => {
  await page.goto(home);
  await expect(page.getByTestId("model-name")).toBeVisible();
  await page.getByLabel("Prompt").fill("ROMEO:");
  await page.getByLabel("Seed").fill("3");
  await page.getByLabel("Max tokens").fill("24");
  await page.getByRole("button", { name: "Continue the text" }).click();
  await expect(page.getByTestId("tokens-list")).toBeVisible();
  await idle(page);
  await shoot(page, "write");
  for (const view of ["Lines", "Three steps"]) {
    await page.getByRole("button", { name: view, exact: true }).click();
    if (view === "Three steps") await expect(page.getByTestId("weighted-sum")).toBeVisible();
    await shoot(page, view.toLowerCase().replace(" ", "-"));
  }
  const translate = await openTab(page, "Translate");
  await translate.getByRole("button", { name: "Translate it" }).click();
  await expect(translate.getByTestId("translation-steps")).toBeVisible();
  await shoot(page, "translate");
  for (const name of ["Read", "This device"]) {
    await openTab(page, name);
    await shoot(page, name.toLowerCase().replace(/ /g, "-"));
  }
  const listen = await openTab(page, "Listen");
  const { folder } = modelAsset("moonshine-tiny");
  if (folder && existsSync(join(folder, "jfk.wav"))) {
    await chooseFolder(page, folder);
    await listen.getByLabel("Sound file").setInputFiles(join(folder, "jfk.wav"));
    await expect(listen.getByTestId("transcript")).toBeVisible({ timeout: 600_000 });
    await listen.locator('[data-head="3.2"]').click();
  }
  await shoot(page, "listen");
});

test("the translator being taught new words", async ({ page, home }) => {
  await page.goto(`${home}#tab=translate`);
  await expect(page.getByRole("tabpanel", { name: "Translate" }).getByTestId("model-name")).toBeVisible();
  const teach = await openTab(page, "Teach");
  await teach.getByLabel("What to teach").selectOption("translator");
  const started = performance.now();
  await teach.getByRole("button", { name: "Teach", exact: true }).click();
  await expect(teach.getByRole("button", { name: "Translate with it" })).toBeVisible({ timeout: 800_000 });
  console.log(`taught in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  await expect(teach.getByTestId("teach-before")).toHaveText("My older sister is a horse.");
  await expect(teach.getByTestId("teach-sample")).toHaveText("My older sister is a horse doctor.");
  await shoot(page, "teach");
});

test("live attention, as an animation", async ({ page, home }) => {
  await page.setViewportSize({ width: 1000, height: 2400 });
  await page.goto(home);
  await expect(page.getByTestId("model-name")).toBeVisible();
  await page.getByLabel("Prompt").fill("To be, or not to");
  await page.getByLabel("Seed").fill("4");
  const panel = page.getByRole("region", { name: "Look inside" });
  const frames: { png: Buffer; ms: number }[] = [];
  let clip: { x: number; y: number; width: number; height: number } | undefined;
  for (let token = 0; token < FRAMES; token++) {
    await page.getByRole("button", { name: "One token" }).click();
    await idle(page);
    if (token === 0) await panel.locator('[data-head="1.2"]').click();
    const { x = 0, y = 0, width = 0, height = 0 } = (await panel.boundingBox()) ?? {};
    // From so many tokens on, the map keeps its size.
    clip ??= { x: Math.floor(x), y: Math.floor(y), width: Math.ceil(width), height: Math.ceil(height) };
    frames.push({
      png: await page.screenshot({ clip, animations: "disabled" }),
      ms: token === FRAMES - 1 ? 2500 : 350,
    });
  }
  const picture = animatedPng(frames);
  expect(picture.length).toBeLessThan(600_000);
  writeFileSync(join(FOLDER, "live.png"), picture);
});
