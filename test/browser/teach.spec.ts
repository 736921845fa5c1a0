import { ROOT } from "../support/built.ts";
import {
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
  await panel.getByLabel("What to teach").selectOption("adapter");
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
  await expect(panel.getByRole("option", { name: /All weights/ })).toBeDisabled();
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
