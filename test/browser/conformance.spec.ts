import { readdirSync } from "node:fs";
import type { Page } from "@playwright/test";
import type { ConformanceReport } from "../../src/conformance/run.ts";
import { ROOT } from "../support/built.ts";
import { expect, test } from "./support/page_test.ts";

const OWN = `${ROOT}/test/conformance/cases`;
const cases = readdirSync(OWN, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json"));
const total = `${cases.length} passed, 0 failed, 0 skipped`;

/** The report of the last run, as the page gives it to copy. */
async function reportOf(page: Page): Promise<ConformanceReport & Record<string, unknown>> {
  return JSON.parse(await page.getByTestId("report").inputValue());
}

async function openConformance(page: Page, home: string): Promise<void> {
  await page.goto(`${home}conformance.html`);
  await expect(page.getByRole("button", { name: "Run" })).toBeEnabled();
}

for (const tier of ["core", "subgroups"] as const) {
  test(`the conformance page passes its own cases on tier ${tier}, by the keyboard`, async ({ page, home }) => {
    await openConformance(page, home);
    await page.getByLabel("Tier").selectOption(tier);
    await page.getByRole("button", { name: "Run" }).focus();
    await page.keyboard.press("Enter");
    await expect(page.getByTestId("status")).toHaveText(total);
    const report = await reportOf(page);
    expect(report).toMatchObject({ tier, passed: cases.length, failed: 0, skipped: 0 });
    expect(report["userAgent"]).toContain("Chrome");
    expect(report["adapter"]).toBeTruthy();
    expect(report.cases.map(({ name }) => `${name}.json`).sort()).toEqual(cases.sort());
    expect(await page.locator("tbody tr").count()).toBe(report.cases.flatMap(({ outputs }) => outputs).length);
  });
}

test("the conformance page runs a chosen folder, and shows what fails and what it skips as text", async ({
  page,
  home,
}) => {
  await openConformance(page, home);
  const f32 = (...values: number[]) => ({
    dtype: "float32",
    shape: [values.length],
    data: Buffer.from(Float32Array.from(values).buffer).toString("base64"),
  });
  const file = (name: string, content: unknown) => ({
    name,
    mimeType: "application/json",
    buffer: Buffer.from(typeof content === "string" ? content : JSON.stringify(content)),
  });
  const node = (op: string) => [{ op, inputs: ["x"], outputs: ["<b>y</b>"], attributes: {} }];
  await page
    .getByLabel("or files of it")
    .setInputFiles([
      file("wrong.json", { nodes: node("Softmax"), inputs: [f32(0, 0)], outputs: [f32(0.5, 0.75)] }),
      file("unknown.json", { nodes: node("Einsum"), inputs: [f32(0)], outputs: [f32(0)] }),
      file("broken.json", "{"),
    ]);
  await expect(page.getByTestId("chosen")).toHaveText(/^3 cases\./);
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByTestId("status")).toHaveText("0 passed, 2 failed, 1 skipped");
  const rows = page.locator("tbody tr");
  await expect(rows.filter({ hasText: "wrong" })).toContainText("<b>y</b>");
  await expect(rows.filter({ hasText: "wrong" })).toContainText("at 1: got 0.5, expected 0.75");
  await expect(rows.filter({ hasText: "unknown" })).toContainText("skipped: needs the operator Einsum");
  await expect(rows.filter({ hasText: "broken" })).toContainText("a case must be JSON");

  await page.getByLabel("Folder of vectors").setInputFiles(`${OWN}/onnx`);
  await page.getByLabel("Name contains").fill("softmax");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByTestId("status")).toHaveText("1 passed, 0 failed, 0 skipped");
  expect((await reportOf(page)).cases.map(({ name }) => name)).toEqual(["softmax"]);
});

test("the report can be copied, by the clipboard or by hand", async ({ page, home }) => {
  await openConformance(page, home);
  await page.getByLabel("Name contains").fill("softmax");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByTestId("status")).toHaveText(/passed/);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Copy report" }).click();
  await expect(page.getByTestId("status")).toHaveText("The report is in the clipboard.");
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(JSON.parse(copied)).toMatchObject({ passed: 1, failed: 0 });
  await page.evaluate(() => {
    navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
  });
  await page.getByRole("button", { name: "Copy report" }).click();
  await expect(page.getByTestId("report")).toBeFocused();
});
