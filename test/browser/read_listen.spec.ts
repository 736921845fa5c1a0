import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../support/built.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import {
  chooseFolder,
  expect,
  expectAccessible,
  openPage,
  openTab,
  runInNode,
  shownWeights,
  test,
} from "./support/page_test.ts";

const TEXT = "Ada lived in London. The cat sat on the mat.";
const QUESTION = "Where did Ada live?";
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

test("reads as Node does: answers, classifies, labels, fills, compares; each with its attention", async ({
  page,
  home,
}) => {
  test.setTimeout(300_000);
  await openPage(page, home, "core");
  const panel = await openTab(page, "Read");
  const result = panel.getByTestId("read-result");
  const models = ["bert_span", "bert_classes", "bert_labels", "bert_words", "bert_plain"] as const;
  const folders = models.map((name) => tinyEncoder(name));
  const node = <T>(verb: string, index: number, ...args: string[]) =>
    runInNode<T>([verb, "--json", "--tier", "core", "--model", folders[index]?.path ?? "", ...args]);
  const open = async (index: number) => {
    if (index > 0) await panel.getByRole("button", { name: "Choose another" }).click();
    await chooseFolder(page, folders[index]?.path ?? "");
  };
  try {
    await open(0);
    await panel.getByLabel("Question").fill(QUESTION);
    await panel.getByLabel("Context").fill(TEXT);
    await panel.locator("[type=submit]").click();
    const answer = await node<{ text: string; score: number; noAnswerScore: number }>(
      ...["answer", 0, "--context", TEXT, QUESTION],
    );
    await expect(result).toHaveText(answer.text || "–");
    await expect(panel.getByText(percent(answer.noAnswerScore)).first()).toBeVisible();

    // The question's and the text's tokens together, every head, as `heed inspect` has them of the text alone.
    await open(1);
    await panel.getByLabel("Text", { exact: true }).fill(TEXT);
    await panel.locator("[type=submit]").click();
    const classified = await node<{ label: string; score: number }>("classify", 1, TEXT);
    await expect(result).toHaveText(classified.label);
    await expect(panel.getByText(percent(classified.score)).first()).toBeVisible();
    await panel.locator('[data-head="1.3"]').click();
    const shown = await shownWeights(page, panel);
    const seen = await node<{ layers: { heads: { queries: { weights: number[] }[] }[] }[] }>(
      ...["inspect", 1, "--layers", "1", "--heads", "3", TEXT],
    );
    const rows = seen.layers[0]?.heads[0]?.queries ?? [];
    expect(rows.length).toBe(shown.weights.length);
    for (const [q, row] of shown.weights.entries()) {
      for (const [k, weight] of row.entries()) {
        expect(Math.abs(weight - (rows[q]?.weights[k] ?? -1))).toBeLessThan(1e-4);
      }
    }

    await open(2);
    await panel.getByLabel("Text", { exact: true }).fill(TEXT);
    await panel.locator("[type=submit]").click();
    const { entities } = await node<{ entities: { text: string; label: string }[] }>("label", 2, TEXT);
    await expect(result).toHaveText(entities.map(({ text, label }) => `${text}: ${label}`).join(" · ") || "–");

    await open(3);
    await panel.getByLabel("Text", { exact: true }).fill("The [MASK] sat on the mat.");
    await panel.locator("[type=submit]").click();
    const filled = await node<{ text: string }>("fill", 3, "The [MASK] sat on the mat.");
    await expect(result).toHaveText(filled.text);

    await open(4);
    await panel.getByLabel("Text", { exact: true }).fill("The cat sat on the mat.");
    await panel.getByLabel("Compared with").fill("A dog.");
    await panel.locator("[type=submit]").click();
    const alike = await node<{ similarities: { score: number }[] }>(
      ...["similarity", 4, "The cat sat on the mat.", "A dog."],
    );
    await expect(result).toHaveText((alike.similarities[0]?.score ?? 0).toFixed(4));
    // The shorter text was padded in its batch: the map has columns that the mask hides.
    await panel.getByTestId("head-map").focus();
    for (let i = 0; i < 12; i++) await page.keyboard.press("ArrowRight");
    await expect(panel.getByTestId("pair")).toContainText("[PAD]");
    await expect(panel.getByTestId("pair")).toContainText("the mask hides it");
    await expectAccessible(page, "read");
  } finally {
    for (const folder of folders) folder.remove();
  }
});

/** A WAV file of 16-bit samples. */
function wav(samples: Int16Array, sampleRate: number): Buffer {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + samples.byteLength, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(sampleRate, 24);
  header.writeUInt32LE(2 * sampleRate, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([header, Buffer.from(samples.buffer)]);
}

test("writes down a sound as Node does, shows where it listened, records, and refuses what is no sound", async ({
  page,
  home,
  context,
}) => {
  // The tiny Whisper with a vocabulary of as many words.
  const folder = tinyEncoder("bert_words");
  for (const file of ["config.json", "generation_config.json", "model.safetensors"]) {
    copyFileSync(`${ROOT}/test/fixtures/goldens/whisper/${file}`, join(folder.path, file));
  }
  const sound = wav(
    Int16Array.from({ length: 8000 }, (_, i) => 8000 * Math.sin(i / 5) * Math.sin(i / 900)),
    16_000,
  );
  try {
    await openPage(page, home, "core");
    const panel = await openTab(page, "Listen");
    await chooseFolder(page, folder.path);
    const file = panel.getByLabel("Sound file");
    await file.setInputFiles({ name: "not a sound.wav", mimeType: "audio/wav", buffer: Buffer.from("no sound") });
    await expect(panel.getByTestId("error-code")).toHaveText("BAD_FILE");
    const path = join(folder.path, "sound.wav");
    writeFileSync(path, sound);
    await file.setInputFiles({ name: "sound.wav", mimeType: "audio/wav", buffer: sound });
    const node = await runInNode(["transcribe", "--json", "--tier", "core", "--model", folder.path, path]);
    expect(node.text).not.toBe("");
    await expect(panel.getByTestId("transcript")).toHaveText(node.text);
    const { weights } = await shownWeights(page, panel);
    expect(weights.length).toBeGreaterThan(3);
    for (const row of weights) expect(row.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 3);
    await expectAccessible(page, "listen");

    await context.grantPermissions(["microphone"]);
    await panel.getByRole("button", { name: "Record" }).click();
    await expect(panel.getByRole("status")).toHaveText("Recording…");
    await page.waitForTimeout(600);
    await panel.getByRole("button", { name: "Stop and write it down" }).click();
    await expect(panel.getByText(/s of sound in/)).toBeVisible();
  } finally {
    folder.remove();
  }
});
