import {
  chooseFolder,
  expect,
  expectToFit,
  openPage,
  seriousFindings,
  test,
  tinyLlama,
  write,
} from "./support/page_test.ts";

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
  await expectToFit(page, "the conformance page", [1280, 320]);
});

test("nothing is wider than the screen, from 320 pixels on", async ({ page, home }) => {
  const widths = [1920, 1280, 768, 390, 320];
  await openPage(page, home, "core");
  await expectToFit(page, "at the start", widths);
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once", maxTokens: 4 });
  await expectToFit(page, "with text", widths);
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
