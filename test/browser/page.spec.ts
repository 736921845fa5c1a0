import type { Page } from "@playwright/test";
import {
  chooseFolder,
  downloadsOf,
  expect,
  expectAccessible,
  openPage,
  openTab,
  runInNode,
  runModuleInNode,
  shownWeights,
  test,
  tinyLlama,
  write,
} from "./support/page_test.ts";

const SENTENCE = "我是一名工程师";

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
  const hard = await shownWeights(page, panel);
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

/** What Node computes of a text: a head's weights, its sum for the last token, the text with the head off, and weights under a prefix. */
const LOOK = `
const { createEngine } = await import(NODE);
const engine = await createEngine({ tier: "core", autotune: false });
const model = await engine.load(input.model);
const ids = model.tokenizer.encode(input.text);
const weightsOf = ({ attention }) => {
  const { keys, weights } = attention.find(({ layer }) => layer === 1);
  const head = weights.subarray(2 * ids.length * keys);
  return ids.map((_, q) => [...head.subarray(q * keys, (q + 1) * keys)]);
};
const name = "block.1.attention.mixed";
const { values, ...plain } = await model.run(ids, { attention: true, capture: [name], logits: false });
const { headDim, heads } = model.facts;
const row = values[name].data.subarray((ids.length - 1) * heads * headDim + 2 * headDim);
const all = [...ids];
while (all.length < ids.length + 24) {
  const { logits } = await model.run(all, { ablate: [{ layer: 1, head: 2 }], logits: "last" });
  const last = logits.at(-1);
  all.push(last.indexOf(last.reduce((a, b) => Math.max(a, b))));
}
const both = await model.run(ids, { attention: true, logits: false, prefixLength: input.prefix });
const detokenizer = model.tokenizer.detokenizer({ skipSpecial: false });
const pieces = all.map((id) => detokenizer.push(id));
console.log(JSON.stringify({
  weights: weightsOf(plain), both: weightsOf(both), mixed: [...row.subarray(0, 6)], tokens: ids.length,
  changed: pieces.slice(ids.length).join(""),
}));
await engine.dispose();
`;

interface Looked {
  weights: number[][];
  both: number[][];
  mixed: number[];
  tokens: number;
  changed: string;
}

function expectSame(rows: readonly number[][], expected: readonly number[][]): void {
  expect(rows.length).toBe(expected.length);
  for (const [q, row] of rows.entries()) {
    for (const [k, weight] of row.entries()) expect(Math.abs(weight - (expected[q]?.[k] ?? -1))).toBeLessThan(1e-4);
  }
}

test("shows the attention that Node computes in every view, and what changes when a head is off", async ({
  page,
  home,
}) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once upon", maxTokens: 6 });
  const panel = page.getByRole("tabpanel", { name: "Write" });
  await expect(panel.getByTestId("tokens-list").getByRole("button")).not.toHaveCount(0);
  // Both by the keyboard and by the mouse.
  await panel.locator('[data-head="0.0"]').focus();
  for (const key of ["ArrowDown", "ArrowRight", "ArrowRight"]) await page.keyboard.press(key);
  await expect(panel.getByTestId("head-name")).toHaveText("Layer 1, head 2");
  const shown = await shownWeights(page, panel);
  const text = `Once upon${await page.getByTestId("generated").textContent()}`;
  const prefix = (await panel.locator(".tokens .given").count()) || 1;
  const node = await runModuleInNode<Looked>(LOOK, { model: tinyLlama(), text, prefix });
  expectSame(shown.weights, node.weights);

  const map = panel.getByTestId("head-map");
  const canvas = map.locator("canvas");
  const colours = () => canvas.evaluate((element) => (element as HTMLCanvasElement).toDataURL());
  const cividis = await colours();
  await panel.getByLabel("Colours").selectOption("viridis");
  expect(await colours()).not.toBe(cividis);
  const [png] = [...(await downloadsOf(page, panel.getByRole("button", { name: "PNG" }))).values()];
  expect(png?.subarray(1, 4).toString()).toBe("PNG");
  const box = await canvas.boundingBox();
  const bottom = (box?.height ?? 0) - 4;
  await canvas.hover({ position: { x: 5, y: bottom } });
  await expect(panel.getByTestId("pair")).toContainText("Point at a cell");
  const left = Math.min(96, Math.max(40, (await map.evaluate((e) => e.clientWidth)) * 0.16));
  await canvas.hover({ position: { x: left + 3, y: bottom } });
  await expect(panel.getByTestId("pair")).toContainText(`the weight ${(node.weights.at(-1)?.[0] ?? 0).toFixed(4)}.`);

  for (const [view, found] of [
    ["Lines", panel.getByRole("img", { name: /Lines from each query/ })],
    ["Table", panel.getByRole("table")],
    ["Three steps", panel.getByTestId("three-steps")],
  ] as const) {
    await panel.getByRole("button", { name: view, exact: true }).click();
    await expect(found).toBeVisible();
    await expectAccessible(page, view);
  }
  await panel.getByLabel("Query").selectOption(String(node.tokens - 1));
  await expect(panel.getByTestId("three-steps").locator("tbody tr").first()).toContainText(
    (node.weights.at(-1)?.[0] ?? 0).toFixed(4),
  );
  const sum = (await panel.getByTestId("weighted-sum").textContent()) ?? "";
  const numbers = sum.match(/-?\d+\.\d+/g)?.map(Number) ?? [];
  expect(numbers.length).toBe(node.mixed.length);
  for (const [i, x] of numbers.entries()) expect(Math.abs(x - (node.mixed[i] ?? 0))).toBeLessThan(0.0051);
  await panel.getByRole("button", { name: "Map", exact: true }).click();
  await map.focus();
  for (let i = 0; i < 20; i++) await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowRight");
  await expect(panel.getByTestId("pair")).toContainText("the mask hides it");

  await panel.getByLabel("This head is on").uncheck();
  await expect(panel.getByTestId("changed")).toHaveText(`… ${node.changed}`);
  await panel.getByLabel("This head is on").check();
  await expect(panel.getByTestId("changed")).toBeHidden();

  // The same text as a prompt whose tokens see each other both ways.
  await expect(panel.getByRole("button", { name: "One token" })).toBeEnabled();
  await panel.getByText("More", { exact: true }).click();
  await panel.getByLabel(/Prefix mask/).check();
  await write(page, { prompt: "Once upon", maxTokens: 1 });
  await expect(panel.getByRole("button", { name: "One token" })).toBeEnabled();
  const both = await shownWeights(page, panel);
  expect(both.mask).toEqual({ kind: "causal", prefix });
  expectSame(
    both.weights.slice(0, prefix),
    node.both.slice(0, prefix).map((row) => row.slice(0, prefix + 1)),
  );
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

test("checks its device, measures it, and gives a report to copy", async ({ page, home, context }) => {
  await openPage(page, home, "core");
  const panel = await openTab(page, "This device");
  await panel.getByRole("button", { name: "Measure the speed" }).click();
  await expect(panel.getByTestId("speed")).toContainText("GFLOP/s");
  await panel.getByRole("button", { name: "Check the kernels" }).click();
  const right = /^All \d+ kernel variants are right\.$/;
  await expect(panel.getByTestId("self-test")).toHaveText(right, { timeout: 240_000 });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await panel.getByRole("button", { name: "Copy the report" }).click();
  await expect(panel.getByRole("button", { name: "Copied" })).toBeVisible();
  const report = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  expect(report).toMatchObject({ device: { tier: "core" }, selfTest: { ok: true }, speed: {} });
});

test("axe finds nothing serious in any tab, light or dark; nothing is wider than a phone", async ({ page, home }) => {
  await openPage(page, home, "core");
  for (const name of ["Write", "Translate", "Read", "Listen", "Teach", "This device"]) {
    await openTab(page, name);
    await expectAccessible(page, name);
  }
});

test("another tier, chosen while the models arrive, loses none of them", async ({ page, home }) => {
  await page.goto(home);
  await page.getByLabel("tier").selectOption("core");
  await expect(page.getByTestId("model-name")).toHaveText("shakespeare");
  const translate = await openTab(page, "Translate");
  await expect(translate.getByTestId("model-name")).toHaveText("zh_en");
  await expect(page.getByLabel("tier")).toHaveValue("core");
});

/** Opens the page with the model that writes, while the translator arrives; it does once what this gives is called. */
async function openWithoutTranslator(page: Page, home: string): Promise<() => void> {
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const asked = page.waitForRequest("**/zh_en/model.safetensors");
  await page.route("**/zh_en/model.safetensors", async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(home);
  await expect(page.getByTestId("model-name")).toHaveText("shakespeare");
  await asked;
  return release;
}

test("writes with the model that is there while the next one arrives, and can be stopped before it has", async ({
  page,
  home,
}) => {
  const release = await openWithoutTranslator(page, home);
  await page.getByLabel("Max tokens").fill("8");
  const begin = page.getByRole("button", { name: "Continue the text" });
  await begin.click();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  release();
  await expect(begin).toBeEnabled();
  await expect(page.getByTestId("generated")).toHaveText("");
  await begin.click();
  await expect(page.getByTestId("tokens")).toHaveText("8 tokens");
});

test("loads the model that a person names while the next one of its own arrives", async ({ page, home }) => {
  await page.route("https://huggingface.co/**", (route) => route.fulfill({ status: 404, body: "" }));
  const release = await openWithoutTranslator(page, home);
  await page.getByRole("button", { name: "Choose another" }).click();
  await page.getByLabel("or a Hub id, or a URL").fill("owner/name");
  await page.getByRole("button", { name: "Load", exact: true }).click();
  release();
  await expect(page.getByTestId("error-code")).toHaveText("NETWORK");
  const translate = await openTab(page, "Translate");
  await expect(translate.getByTestId("model-name")).toHaveText("zh_en");
});
