import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { type GgufFieldToWrite, type GgufTensorToWrite, llamaMetadata, writeGguf } from "../support/gguf.ts";
import {
  browserFolder,
  expect,
  expectAccessible,
  generateInNode,
  openPage,
  test,
  tinyLlama,
  write,
} from "./support/page_test.ts";

const PROMPT = { prompt: "Once upon a time", maxTokens: 12 };

/** Asks for a model by its address, as a person types it. */
async function loadUrl(page: Page, url: string): Promise<void> {
  await page.getByLabel("or a Hub id, or a URL").fill(url);
  await page.getByRole("button", { name: "Load", exact: true }).click();
}

async function drop(page: Page, files: readonly { name: string; base64: string }[]): Promise<void> {
  const data = await page.evaluateHandle((files) => {
    const transfer = new DataTransfer();
    for (const { name, base64 } of files) {
      transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    }
    return transfer;
  }, files);
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
}

test("a download shows its progress, goes on after a cancel where it stopped, is kept, and can be cleared", async ({
  page,
  home,
  server,
}) => {
  await openPage(page, home, "core");
  const url = new URL("/tiny_llama/", home).href;
  const kept = page.getByRole("tabpanel", { name: "Write" }).getByTestId("downloads");
  const weights = () => server.requests.filter(({ path, bytes }) => path.endsWith(".safetensors") && bytes > 50_000);
  server.hold = { path: "model.safetensors", bytes: 100_000 };
  await loadUrl(page, url);
  await expect(page.getByTestId("load-note")).toHaveText(/^model\.safetensors: 100 kB of \d+ kB have arrived/);
  await expect(page.getByRole("progressbar")).toHaveJSProperty("value", 100_000);
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(kept).toContainText("kB");
  server.hold = undefined;
  const before = weights().length;
  await loadUrl(page, url);
  await expect(page.getByTestId("model-name")).toBeVisible();
  expect(
    weights()
      .slice(before)
      .map(({ start }) => start),
  ).toEqual([100_000]);
  const text = await write(page, PROMPT);
  const node = await generateInNode(["--model", tinyLlama(), "--greedy", "--max-tokens", "12", PROMPT.prompt]);
  expect(text).toBe(node.text);

  // From the kept copy: nothing of the weights is fetched again.
  await page.goto("about:blank");
  await openPage(page, home, "core");
  await expect(kept).toContainText("whole files");
  await expectAccessible(page, "with downloads");
  await loadUrl(page, url);
  await expect(page.getByTestId("model-name")).toBeVisible();
  expect(weights().length).toBe(before + 1);
  await page.getByRole("button", { name: "Choose another" }).click();
  await page.getByRole("button", { name: "Clear" }).click();
  await expect(kept).toBeHidden();
  await loadUrl(page, url);
  await expect(page.getByTestId("model-name")).toBeVisible();
  expect(weights().at(-1)?.start).toBe(0);
  expect(weights().length).toBe(before + 2);
});

/** The tiny checkpoint as llama.cpp's converter would write it, in f32. */
function tinyGguf(): Uint8Array<ArrayBuffer> {
  const read = (name: string) => JSON.parse(readFileSync(join(tinyLlama(), name), "utf8"));
  const config = read("config.json") as Record<string, number>;
  const { model, added_tokens: added } = read("tokenizer.json") as {
    model: { vocab: Record<string, number> };
    added_tokens: { id: number; content: string }[];
  };
  const ids = new Map([...Object.entries(model.vocab), ...added.map(({ content, id }) => [content, id] as const)]);
  const tokens = [...ids].sort((a, b) => a[1] - b[1]).map(([piece]) => piece);
  const special = new Set(added.map(({ content }) => content));
  const number = (key: string) => config[key] ?? 0;
  const metadata: Record<string, GgufFieldToWrite> = {
    ...llamaMetadata(config),
    "llama.attention.key_length": number("head_dim"),
    "llama.rope.dimension_count": number("head_dim"),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.merges": [],
    "tokenizer.ggml.token_type": { i32s: tokens.map((token) => (special.has(token) ? 3 : 1)) },
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.ggml.bos_token_id": number("bos_token_id"),
    "tokenizer.ggml.eos_token_id": number("eos_token_id"),
  };
  return writeGguf(metadata, ggufTensors(number("head_dim")));
}

/** The tensors under GGUF's names; llama.cpp has the rows of q and k in pairs. */
function ggufTensors(headDim: number): Map<string, GgufTensorToWrite> {
  const file = readFileSync(join(tinyLlama(), "model.safetensors"));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >;
  const names: [RegExp, string][] = [
    [/^model\.embed_tokens/, "token_embd"],
    [/^model\.norm/, "output_norm"],
    [/^model\.layers\.(\d+)\.input_layernorm/, "blk.$1.attn_norm"],
    [/^model\.layers\.(\d+)\.post_attention_layernorm/, "blk.$1.ffn_norm"],
    [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj/, "blk.$1.attn_$2"],
    [/^model\.layers\.(\d+)\.self_attn\.o_proj/, "blk.$1.attn_output"],
    [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj/, "blk.$1.ffn_$2"],
  ];
  const tensors = new Map<string, GgufTensorToWrite>();
  for (const [name, { shape, data_offsets: at }] of Object.entries(header)) {
    const [pattern, gguf] = names.find(([pattern]) => pattern.test(name)) ?? [/$^/, ""];
    if (!shape) continue;
    const own = name.replace(pattern, gguf);
    const bytes = Uint8Array.from(file.subarray(8 + headerBytes + at[0], 8 + headerBytes + at[1]));
    const data = /attn_[qk]\./.test(own) ? paired(bytes, shape, headDim) : bytes;
    tensors.set(own, { type: 0, shape, data });
  }
  return tensors;
}

/** Rows of each head from halves, first and second, to pairs. */
function paired(bytes: Uint8Array, shape: readonly number[], headDim: number): Uint8Array {
  const [rows = 0, columns = 0] = shape;
  const rowBytes = columns * 4;
  const out = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const from = row - inHead + (inHead % 2 === 0 ? inHead / 2 : headDim / 2 + (inHead - 1) / 2);
    out.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), row * rowBytes);
  }
  return out;
}

test("a GGUF file that is dropped writes what Node writes with it; weights without their config are refused", async ({
  page,
  home,
}) => {
  await openPage(page, home, "core");
  const weights = readFileSync(join(tinyLlama(), "model.safetensors")).toString("base64");
  await drop(page, [{ name: "model.safetensors", base64: weights }]);
  await expect(page.getByTestId("error-code")).toHaveText("BAD_FILE");
  await expect(page.getByRole("alert")).toContainText("config.json");
  const gguf = tinyGguf();
  const path = join(browserFolder(), "tiny.gguf");
  await writeFile(path, gguf);
  await drop(page, [{ name: "tiny.gguf", base64: Buffer.from(gguf).toString("base64") }]);
  await expect(page.getByTestId("model-name")).toHaveText("tiny.gguf");
  const node = await generateInNode(["--model", path, "--greedy", "--max-tokens", "12", PROMPT.prompt]);
  expect(await write(page, PROMPT)).toBe(node.text);
  const original = await generateInNode(["--model", tinyLlama(), "--greedy", "--max-tokens", "12", PROMPT.prompt]);
  expect(node.text).toBe(original.text);
});
