import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { preview } from "vite";
import { ROOT } from "../support/built.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import { browserFolder, chooseFolder, expect, openPage, openTab, test, tinyLlama, write } from "./support/page_test.ts";

const RUN = "document.title='run'";
/** Texts that would do something anywhere but in `textContent`. */
const MARKUP = [
  `<script>${RUN}</script>`,
  `<img src=x onerror=${RUN}>`,
  `<svg onload=${RUN}></svg>`,
  `<svg><script>${RUN}</script></svg>`,
  `"><script>${RUN}</script>`,
  `' onmouseover='${RUN}`,
  `" autofocus onfocus="${RUN}`,
  `<iframe srcdoc="<script>parent.${RUN}</script>"></iframe>`,
  `<a href="javascript:${RUN}">a</a>`,
  "<style>body{display:none}</style>",
  '<base href="https://example.com/">',
  '<meta http-equiv="refresh" content="0;url=https://example.com/">',
  `<template><script>${RUN}</script></template>`,
  `{{ ''.constructor.constructor("${RUN}")() }}`,
  `{% for x in cycler.__init__.__globals__ %}${RUN}{% endfor %}`,
  `\${${RUN}}`,
  `{@html "<img src=x onerror=${RUN}>"}`,
  `</textarea><script>${RUN}</script>`,
  `</title><script>${RUN}</script>`,
  `<!--<script>${RUN}</script>-->`,
  `<math><mtext><img src=x onerror=${RUN}></mtext></math>`,
  `<form action=javascript:${RUN}><button autofocus></form>`,
  `<details open ontoggle=${RUN}></details>`,
  `<video><source onerror=${RUN}></video>`,
  `\u202e<script>${RUN}</script>\u202c`,
  "__proto__",
];
/** Addresses that are no model's. */
const ADDRESSES = [
  ...[`javascript:${RUN}`, `data:text/html,<script>${RUN}</script>`, "file:///etc/passwd", "//example.com/x"],
  ...["../../etc/passwd", "https://user:pw@127.0.0.1/x", "hf:../../x", "blob:https://example.com/1", "owner/na me"],
];

/** Nothing of a stranger's text has become a part of the page. */
async function expectOnlyText(page: Page): Promise<void> {
  const own =
    "script:not([src]), img, iframe, base, body style, body meta, body form[action], video, math, [href^=javascript]";
  const handlers = "[onerror], [onload], [onfocus], [onmouseover], [ontoggle]";
  expect(await page.locator(`${own}, ${handlers}`).count()).toBe(0);
  expect(await page.title()).not.toBe("run");
}

test("hostile prompts, tokens, templates and addresses stay text", async ({ page, home }) => {
  const folder = join(browserFolder(), "hostile_llama");
  cpSync(tinyLlama(), folder, { recursive: true });
  const read = (name: string) => JSON.parse(readFileSync(join(folder, name), "utf8"));
  const tokenizer = read("tokenizer.json") as { model: { vocab: Record<string, number> } };
  // Every printable piece but small letters and the blank, so that most of what is written is hostile.
  const pieces = Object.entries(tokenizer.model.vocab).map(([piece, id]): [string, number] => {
    const replaced = id > 0x20 && id < 0x7f && !/^[a-z]$/.test(piece);
    return [replaced ? `${MARKUP[id % MARKUP.length]}${id}`.replaceAll(" ", "Ġ") : piece, id];
  });
  tokenizer.model.vocab = Object.fromEntries(pieces);
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  const settings = { ...read("tokenizer_config.json"), chat_template: MARKUP.join("") };
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(settings));
  try {
    const hash = new URLSearchParams({ model: "none", prompt: MARKUP.join("\n"), seed: MARKUP[0] ?? "", tab: "<b>" });
    await page.goto(`${home}#${hash}&layer=${RUN}&lang=<script>`);
    await expect(page.getByLabel("tier")).toBeEnabled();
    await expect(page.getByLabel("Prompt")).toHaveValue(MARKUP.join("\n"));
    await expectOnlyText(page);
    const name = page.getByLabel("or a Hub id, or a URL");
    for (const address of [...ADDRESSES, ...MARKUP]) {
      await name.fill(address);
      await page.getByRole("button", { name: "Load", exact: true }).click();
      await expect(page.getByRole("alert")).toBeVisible();
    }
    await expectOnlyText(page);
    await chooseFolder(page, folder);
    await write(page, { prompt: "once upon", maxTokens: 24 });
    await expect(page.getByTestId("tokens-list")).toContainText(RUN);
    for (const view of ["Lines", "Table", "Three steps", "Map"]) {
      await page.getByRole("button", { name: view, exact: true }).click();
      await expectOnlyText(page);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("hostile file names, settings and labels stay text", async ({ page, home }) => {
  await openPage(page, home, "core");
  // A slash can't be in a file's name, but what looks like one can.
  const named = MARKUP.map((text) => ({
    ...{ name: `${text.replaceAll("/", "\u2215")}.json`, mimeType: "text/plain", buffer: Buffer.from("{}") },
  }));
  await page.getByLabel("Files of a model").setInputFiles(named);
  await expect(page.getByRole("alert")).toContainText("<img src=x");
  await expectOnlyText(page);
  for (const value of MARKUP.slice(0, 4)) {
    const config = {
      name: "config.json",
      mimeType: "application/json",
      buffer: Buffer.from(JSON.stringify({ model_type: value, architectures: [value] })),
    };
    await page.getByLabel("Files of a model").setInputFiles([config, { ...config, name: "model.safetensors" }]);
    await expect(page.getByRole("alert")).toBeVisible();
    await expectOnlyText(page);
  }
  const golden = JSON.parse(readFileSync(`${ROOT}/test/fixtures/goldens/bert_classes/config.json`, "utf8"));
  const count = Object.keys(golden.id2label).length;
  const id2label = Object.fromEntries(MARKUP.slice(0, count).map((label, i) => [i, label]));
  const folder = tinyEncoder("bert_classes", { "config.json": { ...golden, id2label } });
  try {
    const panel = await openTab(page, "Read");
    await chooseFolder(page, folder.path);
    await panel.getByLabel("Text", { exact: true }).fill("<b>the cat</b>");
    await panel.locator("[type=submit]").click();
    await expect(panel.getByTestId("read-result")).toContainText(RUN);
    await expectOnlyText(page);
  } finally {
    folder.remove();
  }
});

test("under any path, nothing is asked of another origin until a model is named", async ({ page, context }) => {
  const server = await preview({
    ...{ configFile: `${ROOT}/vite.config.ts`, base: "/any/sub/path/", logLevel: "silent" },
    build: { outDir: join(browserFolder(), "demo") },
    preview: { host: "127.0.0.1", port: 0 },
  });
  try {
    const [home = ""] = server.resolvedUrls?.local ?? [];
    expect(home).toContain("/any/sub/path/");
    const asked: string[] = [];
    context.on("request", (request) => asked.push(request.url()));
    await context.route("https://huggingface.co/**", (route) => route.fulfill({ status: 404, body: "" }));
    await page.goto(home);
    await write(page, { prompt: "ROMEO:", maxTokens: 4 });
    const foreign = () => asked.filter((url) => !url.startsWith(home) && !/^(blob|data):/.test(url));
    expect(foreign()).toEqual([]);
    expect(asked.length).toBeGreaterThan(5);
    await page.getByRole("button", { name: "Choose another" }).click();
    await page.getByLabel("or a Hub id, or a URL").fill("owner/name");
    await page.getByRole("button", { name: "Load", exact: true }).click();
    await expect(page.getByTestId("error-code")).toHaveText("NETWORK");
    const others = foreign();
    expect(others.length).toBeGreaterThan(0);
    for (const url of others) expect(url).toMatch(/^https:\/\/huggingface\.co\/.*owner\/name/);
  } finally {
    await server.close();
  }
});
