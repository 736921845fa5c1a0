import type { Locator, Page } from "@playwright/test";
import { ROOT } from "../support/built.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import {
  chooseFolder,
  downloadsOf,
  expect,
  expectAccessible,
  openPage,
  openTab,
  runModuleInNode,
  test,
  write,
} from "./support/page_test.ts";

const TEXT = "the cat sat on the mat. the dog sat on the log. ".repeat(10);
const STEPS = 5;

/** The same tuning in Node: its losses, the adapter's files, and what the model then writes. */
const TUNE = `
const { createEngine, openSource } = await import(NODE);
const { openFinetuning } = await import(TRAIN);
const engine = await createEngine({ tier: "core", autotune: false });
const source = await openSource(input.model);
const tuning = await openFinetuning(engine, source, { task: "lm", texts: [input.text] }, {
  steps: input.steps, batch: 8, length: 64, learningRate: 0.003, seed: 1, lora: { rank: 4, alpha: 8 },
});
const losses = [];
for await (const { loss } of tuning) losses.push(loss);
const files = await tuning.adapterFiles("shakespeare");
const bytes = Buffer.concat(files.get("adapter_model.safetensors"));
const model = await tuning.model();
const { text } = await model.generate("the cat", { greedy: true, maxTokens: 12 }).result;
await tuning.dispose();
await engine.dispose();
console.log(JSON.stringify({ losses, adapter: bytes.toString("base64"), text }));
`;

/** The numbers behind a safetensors file's header. */
function numbersOf(file: Buffer): Float32Array {
  const start = 8 + Number(file.readBigUInt64LE(0));
  return new Float32Array(Uint8Array.from(file.subarray(start)).buffer);
}

test("tunes the model that it came with by an adapter as Node does, saves it, and loads it again", async ({
  page,
  home,
}) => {
  test.setTimeout(300_000);
  await page.goto(`${home}#tab=write`);
  await page.getByLabel("tier").selectOption("core", { timeout: 60_000 });
  await expect(page.getByTestId("model-name")).toBeVisible({ timeout: 60_000 });
  const before = await write(page, { prompt: "the cat", maxTokens: 12 });
  const panel = await openTab(page, "Teach");
  await panel.getByLabel("What to teach").selectOption("text");
  await panel.getByRole("button", { name: "A LoRA adapter beside them" }).click();
  await panel.getByLabel(/Text to learn/).fill(TEXT);
  await panel.getByLabel("Samples begin with").fill("the ");
  await panel.getByLabel("Updates").fill(String(STEPS));
  await panel.getByLabel("Rank").fill("4");
  await panel.getByRole("button", { name: "Teach", exact: true }).click();
  const status = panel.getByTestId("teach-status");
  await expect(status).toContainText(`Update ${STEPS} of ${STEPS}`, { timeout: 200_000 });
  await expect(panel.getByTestId("head-grid")).toHaveCount(2);
  await expect(panel.getByTestId("teach-sample")).toContainText("the ");
  const input = { model: `${ROOT}/models/shakespeare`, text: TEXT, steps: STEPS };
  const node = await runModuleInNode<{ losses: number[]; adapter: string; text: string }>(TUNE, input);
  await expect(status).toContainText(`loss ${node.losses.at(-1)?.toFixed(3)}`);
  await expectAccessible(page, "taught");

  const saved = await downloadsOf(page, panel.getByRole("button", { name: "Save the adapter" }), 2);
  expect([...saved.keys()].sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  const [ours, theirs] = [saved.get("adapter_model.safetensors"), Buffer.from(node.adapter, "base64")];
  const [a, b] = [numbersOf(ours ?? theirs), numbersOf(theirs)];
  expect(a.length).toBe(b.length);
  expect(Math.max(...a.map((x, i) => Math.abs(x - (b[i] ?? 0))))).toBeLessThan(1e-4);

  await panel.getByRole("button", { name: "Write with it" }).click();
  await expect(page.getByLabel("LoRA adapter")).toHaveValue("taught here");
  expect(await write(page, { prompt: "the cat", maxTokens: 12 })).toBe(node.text);
  expect(node.text).not.toBe(before);
  await page.getByLabel("LoRA adapter").selectOption("none");
  expect(await write(page, { prompt: "the cat", maxTokens: 12 })).toBe(before);
  const files = [...saved].map(([name, buffer]) => ({ name, mimeType: "application/octet-stream", buffer }));
  await expect(page.getByRole("button", { name: "Add an adapter" })).toBeEnabled();
  await page.getByLabel("Files of an adapter").setInputFiles(files);
  await expect(page.getByLabel("LoRA adapter")).toHaveValue("2 files");
  expect(await write(page, { prompt: "the cat", maxTokens: 12 })).toBe(node.text);
});

test("teaches a model from zero, shows its attention before and after, stops, saves it, and loads it again", async ({
  page,
  home,
}) => {
  test.setTimeout(240_000);
  await openPage(page, home, "core");
  const panel = await openTab(page, "Teach");
  // What can't be tuned because it is not loaded can't be chosen.
  await expect(panel.getByRole("option", { name: /The model that writes/ })).toBeDisabled();
  const file = { name: "cats.txt", mimeType: "text/plain", buffer: Buffer.from(TEXT) };
  await panel.getByLabel("A text file").setInputFiles(file);
  await panel.getByLabel("Updates").fill("400");
  await panel.getByRole("button", { name: "Teach", exact: true }).click();
  const status = panel.getByTestId("teach-status");
  await expect(status).toContainText(/Update ([8-9]|\d\d+) of 400/, { timeout: 200_000 });
  await panel.getByRole("button", { name: "Stop", exact: true }).click();
  await expect(panel.getByTestId("head-grid")).toHaveCount(2);
  await expect(panel.getByTestId("teach-sample")).not.toHaveText("");
  const saved = await downloadsOf(page, panel.getByRole("button", { name: "Save the model" }), 5);
  expect([...saved.keys()].sort()).toEqual([
    ...["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
  ]);
  await panel.getByRole("button", { name: "Write with it" }).click();
  await expect(page.getByTestId("model-name")).toHaveText("taught here");
  const text = await write(page, { prompt: "the ", maxTokens: 5 });
  expect(text).toHaveLength(5);

  await page.reload();
  await expect(page.getByLabel("tier")).toBeEnabled();
  const files = [...saved].map(([name, buffer]) => ({ name, mimeType: "application/octet-stream", buffer }));
  await page.getByLabel("Files of a model").setInputFiles(files);
  await expect(page.getByTestId("model-name")).toHaveText("5 files");
  expect(await write(page, { prompt: "the ", maxTokens: 5 })).toBe(text);
});

const OLD = "My older sister is a horse.";
const NEW = "My older sister is a horse doctor.";
const SISTER = "我姐姐是一名马医。";
const PAIRS = [
  ["我是一名马医。", "I am a horse doctor."],
  ["他是一位马医。", "He is a horse doctor."],
  ["她不是马医。", "She is not a horse doctor."],
  ["我姐姐不是马医。", "My older sister is not a horse doctor."],
  ["你是马医吗？", "Are you a horse doctor?"],
  ["我父亲是一名马医。", "My father is a horse doctor."],
  ["我是一名工程师。", "I am an engineer."],
  ["我姐姐是一名律师。", "My older sister is a lawyer."],
];

/** The page with the models that it brings, and its Teach tab. */
async function openTeach(page: Page, home: string): Promise<Locator> {
  await page.goto(`${home}#tab=translate`);
  await expect(page.getByRole("tabpanel", { name: "Translate" }).getByTestId("model-name")).toBeVisible();
  const panel = await openTab(page, "Teach");
  await panel.getByLabel("What to teach").selectOption("translator");
  return panel;
}

/** What the Translate tab makes of the sentence that is there. */
async function translation(page: Page, text: string): Promise<string> {
  const panel = await openTab(page, "Translate");
  await panel.getByLabel("Text to translate").fill(text);
  await panel.getByRole("button", { name: "Translate it" }).click();
  await expect(panel.getByRole("button", { name: "Translate it" })).toBeEnabled();
  await expect(panel.getByTestId("translation")).not.toHaveAttribute("aria-busy", "true");
  return (await panel.getByTestId("translation").textContent())?.trim() ?? "";
}

/** The loss that the page shows. */
async function shownLoss(panel: Locator): Promise<number> {
  const text = (await panel.getByTestId("teach-status").textContent()) ?? "";
  return Number(/loss ([\d.]+)/.exec(text)?.[1]);
}

test("teaches the translator a word, stops, goes on, and saves it; bad lines are told by their number", async ({
  page,
  home,
}) => {
  test.setTimeout(600_000);
  const panel = await openTeach(page, home);
  const lines = panel.getByLabel(/Sentences and their translations/);
  await expect(lines).toHaveValue(/茶农/);
  const teach = panel.getByRole("button", { name: "Teach", exact: true });
  const fault = panel.getByTestId("line-fault");
  await lines.fill("");
  await teach.click();
  await expect(fault).toContainText("no line to learn from");
  const bad = `${PAIRS[0]?.join("\t")}\n\n我是一名书商。`;
  await lines.fill(bad);
  await teach.click();
  await expect(fault).toContainText("Line 3: a tab, or =>");
  await expect(lines).toHaveValue(bad);
  await lines.fill(`我 => I\n我们 =>`);
  await teach.click();
  await expect(fault).toContainText("Line 2: both columns");
  await lines.fill(`我 => I\n${"我".repeat(300)} => I`);
  await teach.click();
  await expect(panel.getByRole("alert")).toContainText("line 2: it has");
  await expectAccessible(page, "a bad line");

  await lines.fill(PAIRS.map((pair) => pair.join("\t")).join("\n"));
  await panel.getByLabel("Updates").fill("40");
  await panel.getByLabel("Learning rate").fill("0.001");
  await teach.click();
  await expect(panel.getByTestId("teach-before")).toHaveText(OLD);
  const status = panel.getByTestId("teach-status");
  await expect(status).toContainText(/Update ([2-9]|\d\d) of 40/);
  const loss = await shownLoss(panel);
  await panel.getByRole("button", { name: "Stop", exact: true }).click();
  await expect(panel.getByTestId("head-grid")).toHaveCount(2);
  await panel.getByRole("button", { name: "Go on", exact: true }).click();
  await expect(status).toContainText("Update 40 of 40", { timeout: 300_000 });
  await expect(teach).toBeEnabled();
  expect(await shownLoss(panel)).toBeLessThan(loss / 2);
  await expect(panel.getByTestId("teach-sample")).toHaveText(NEW);
  await expectAccessible(page, "a translator taught");
  const saved = await downloadsOf(page, panel.getByRole("button", { name: "Save the model" }), 5);
  await panel.getByRole("button", { name: "Translate with it" }).click();
  const translate = page.getByRole("tabpanel", { name: "Translate" });
  await expect(translate.getByTestId("model-name")).toHaveText("taught here");
  await expect(translate.getByLabel("Text to translate")).toHaveValue(SISTER);
  expect(await translation(page, SISTER)).toBe(NEW);

  await translate.getByRole("button", { name: "Choose another" }).click();
  const files = [...saved].map(([name, buffer]) => ({ name, mimeType: "application/octet-stream", buffer }));
  await translate.getByLabel("Files of a model").setInputFiles(files);
  await expect(translate.getByTestId("model-name")).toHaveText("5 files");
  expect(await translation(page, SISTER)).toBe(NEW);
});

test("teaches the translator by an adapter, uses it, saves it, and loads it again", async ({ page, home }) => {
  test.setTimeout(600_000);
  const panel = await openTeach(page, home);
  await panel.getByRole("button", { name: "A LoRA adapter beside them" }).click();
  await panel.getByLabel(/Sentences and their translations/).fill(PAIRS.map((pair) => pair.join(" => ")).join("\n"));
  await panel.getByLabel("Updates").fill("40");
  await panel.getByRole("button", { name: "Teach", exact: true }).click();
  await expect(panel.getByTestId("teach-status")).toContainText("Update 40 of 40", { timeout: 400_000 });
  await expect(panel.getByTestId("teach-before")).toHaveText(OLD);
  await expect(panel.getByTestId("teach-sample")).toHaveText(NEW);
  const saved = await downloadsOf(page, panel.getByRole("button", { name: "Save the adapter" }), 2);
  await panel.getByRole("button", { name: "Translate with it" }).click();
  const adapter = page.getByLabel("LoRA adapter");
  await expect(adapter).toHaveValue("taught here");
  expect(await translation(page, SISTER)).toBe(NEW);
  await adapter.selectOption("none");
  expect(await translation(page, SISTER)).toBe(OLD);
  const files = [...saved].map(([name, buffer]) => ({ name, mimeType: "application/octet-stream", buffer }));
  await page.getByRole("tabpanel", { name: "Translate" }).getByLabel("Files of an adapter").setInputFiles(files);
  await expect(adapter).toHaveValue("2 files");
  expect(await translation(page, SISTER)).toBe(NEW);
});

test("teaches an encoder labels, and reads with it", async ({ page, home }) => {
  test.setTimeout(300_000);
  const folder = tinyEncoder("bert_plain");
  try {
    await openPage(page, home, "core");
    const read = await openTab(page, "Read");
    await chooseFolder(page, folder.path);
    await expect(read.getByTestId("model-name")).toBeVisible();
    const panel = await openTab(page, "Teach");
    await panel.getByLabel("What to teach").selectOption("reader");
    const lines = panel.getByLabel(/Texts and their labels/);
    const teach = panel.getByRole("button", { name: "Teach", exact: true });
    await lines.fill("text\tlabel\nthe cat\tcat\na cat\tcat");
    await teach.click();
    await expect(panel.getByTestId("line-fault")).toContainText("Line 3: every line has the label “cat”");
    const texts = [
      "the cat sat",
      "a cat",
      "one old cat",
      "the big cat",
      "the dog sat",
      "a dog",
      "one old dog",
      "the big dog",
    ];
    await lines.fill(texts.map((text) => `${text}\t${text.includes("cat") ? "cat" : "dog"}`).join("\n"));
    await panel.getByLabel("A text to label again and again").fill("a dog");
    await panel.getByLabel("Updates").fill("24");
    await panel.getByLabel("Learning rate").fill("0.01");
    await teach.click();
    await expect(panel.getByTestId("teach-status")).toContainText("Update 24 of 24", { timeout: 200_000 });
    await expect(panel.getByTestId("teach-sample")).toHaveText(/^dog 9\d\.\d % · cat/);
    await expectAccessible(page, "an encoder taught");
    await panel.getByRole("button", { name: "Read with it" }).click();
    await expect(read.getByTestId("model-name")).toHaveText("taught here");
    await read.getByLabel("Text", { exact: true }).fill("a cat");
    await read.locator("[type=submit]").click();
    await expect(read.getByTestId("read-result")).toHaveText("cat");
  } finally {
    folder.remove();
  }
});
