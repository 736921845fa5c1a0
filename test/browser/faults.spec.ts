import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Page } from "@playwright/test";
import { provideChromium } from "./support/chromium.ts";
import { chooseFolder, expect, openPage, startWriting, test, tinyLlama, write } from "./support/page_test.ts";

/** The worker that the engine runs in now. */
function engineWorker(page: Page) {
  const worker = page.workers().at(-1);
  if (!worker) throw new Error("the page has no worker");
  return worker;
}

test("a wrong file is refused with its code, and the next choice works", async ({ page, home }) => {
  await openPage(page, home, "core");
  const picture = { name: "holiday.jpg", mimeType: "image/jpeg", buffer: Buffer.from("not a model") };
  await page.getByLabel("Files of a model").setInputFiles(picture);
  await expect(page.getByTestId("error-code")).toHaveText("BAD_FILE");
  await expect(page.getByRole("alert")).toContainText("config.json");
  await chooseFolder(page, tinyLlama());
  expect(await write(page, { prompt: "Once", maxTokens: 4 })).not.toBe("");
});

test("a truncated checkpoint is refused", async ({ page, home }) => {
  await openPage(page, home, "core");
  const folder = await mkdtemp(join(tmpdir(), "heed-truncated-"));
  try {
    await writeFile(join(folder, "config.json"), '{"model_type":"llama"}');
    await writeFile(join(folder, "model.safetensors"), "short");
    await page.getByLabel("Folder of a model").setInputFiles(folder);
    await expect(page.getByTestId("error-code")).toHaveText("BAD_FILE");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("files can be dropped on the page", async ({ page, home }) => {
  await openPage(page, home, "core");
  const names = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
  ];
  const data = await page.evaluateHandle(
    async ({ url, names }) => {
      const transfer = new DataTransfer();
      for (const name of names) transfer.items.add(new File([await (await fetch(url + name)).blob()], name));
      return transfer;
    },
    { url: new URL("/tiny_llama/", home).href, names },
  );
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
  await expect(page.getByTestId("model-name")).toHaveText("5 files");
});

test("a folder can be dropped on the page", async ({ page, home, context }) => {
  await openPage(page, home, "core");
  const browser = await context.newCDPSession(page);
  const data = { items: [], files: [tinyLlama()], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"] as const) {
    await browser.send("Input.dispatchDragEvent", { type, x: 200, y: 300, data });
  }
  await expect(page.getByTestId("model-name")).toHaveText("tiny_llama");
});

test("a URL loads, and cancel in mid-load leaves nothing behind", async ({ page, home, context }) => {
  await openPage(page, home, "core");
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await context.route("**/tiny_llama/model.safetensors", async (route) => {
    await held;
    await route.continue().catch(() => undefined);
  });
  const name = page.getByLabel("or a Hub id, or a URL");
  await name.fill(new URL("/tiny_llama/", home).href);
  await page.getByRole("button", { name: "Load" }).click();
  await expect(page.getByRole("progressbar")).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(name).toBeVisible();
  await expect(page.getByRole("alert")).toHaveCount(0);
  release();
  await context.unroute("**/tiny_llama/model.safetensors");
  await name.fill(new URL("/tiny_llama/", home).href);
  await page.getByRole("button", { name: "Load" }).click();
  await expect(page.getByTestId("model-name")).toBeVisible();
});

test("stop ends a generation, and the next one runs", async ({ page, home }) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await startWriting(page, { prompt: "Once upon a time", maxTokens: 480, seed: 3 });
  await expect(page.getByTestId("generated")).not.toHaveText("");
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("status")).toContainText("Stopped.");
  const tokens = Number.parseInt((await page.getByTestId("tokens").textContent()) ?? "", 10);
  expect(tokens).toBeGreaterThan(0);
  expect(tokens).toBeLessThan(480);
  expect(await write(page, { prompt: "Once", maxTokens: 5 })).not.toBe("");
  await expect(page.getByTestId("tokens")).toHaveText("5 tokens");
});

test("an option out of range and a prompt beyond the context are refused by the engine's own words", async ({
  page,
  home,
}) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await startWriting(page, { prompt: "long ".repeat(200), maxTokens: 5 });
  await expect(page.getByTestId("error-code")).toHaveText("LIMIT");
  await expect(page.getByRole("alert")).toContainText("the context 512");
});

test("a lost device says DEVICE_LOST, and starting again loads the model again", async ({ page, home }) => {
  await openPage(page, home, "core");
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: "Once", maxTokens: 2 });
  // The page has no hook for this: the next command encoder takes its own device away.
  await engineWorker(page).evaluate(() => {
    const create = GPUDevice.prototype.createCommandEncoder;
    let calls = 0;
    GPUDevice.prototype.createCommandEncoder = function (descriptor) {
      if (++calls === 5) this.destroy();
      return create.call(this, descriptor);
    };
  });
  await startWriting(page, { prompt: "Once upon a time", maxTokens: 200 });
  await expect(page.getByTestId("error-code")).toHaveText("DEVICE_LOST");
  await expect(page.getByLabel("Prompt")).toHaveValue("Once upon a time");
  await expect(page.getByRole("heading", { name: "The GPU went away" })).toBeVisible();
  await page.getByRole("button", { name: "Start again" }).click();
  await expect(page.getByTestId("model-name")).toBeVisible();
  expect(await write(page, { prompt: "Once", maxTokens: 4 })).not.toBe("");
});

test("hostile file names, prompts and models stay text", async ({ page, home }) => {
  await openPage(page, home, "core");
  const hostile = "<img src=x onerror=document.title='run'><script>document.title='run'</script>";
  const file = { name: `${hostile.replaceAll("/", "\u2215")}.json`, mimeType: "text/plain", buffer: Buffer.from("{}") };
  await page.getByLabel("Files of a model").setInputFiles(file);
  await expect(page.getByRole("alert")).toContainText("<img src=x");
  const name = page.getByLabel("or a Hub id, or a URL");
  for (const spec of [hostile, "javascript:document.title='run'", "../../etc/passwd", "https://user:pw@127.0.0.1/x"]) {
    await name.fill(spec);
    await page.getByRole("button", { name: "Load" }).click();
    await expect(page.getByRole("alert")).toBeVisible();
  }
  await chooseFolder(page, tinyLlama());
  await write(page, { prompt: hostile, maxTokens: 2 });
  await expect(page.getByTestId("output")).toContainText("<script>");
  expect(await page.locator("img, [onerror]").count()).toBe(0);
  expect(await page.title()).not.toBe("run");
});

test("the page's policy refuses inline scripts, styles, and other servers without https", async ({ browser, home }) => {
  // A page of its own: the others fail at the first violation.
  const page = await browser.newPage();
  try {
    await openPage(page, home);
    const refused = await page.evaluate(async () => {
      const seen: string[] = [];
      document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "document.title = 'run'";
      const style = document.createElement("style");
      style.textContent = "body { display: none }";
      document.body.append(script, style);
      await fetch("http://example.com/").catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 200));
      return seen.sort();
    });
    expect(refused).toEqual(["connect-src", "script-src-elem", "style-src-elem"]);
    expect(await page.title()).not.toBe("run");
  } finally {
    await page.close();
  }
});

test.describe("without WebGPU", () => {
  test("a browser that lacks it gets a panel with the remedy", async ({ page, home }) => {
    await page.addInitScript(() => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }));
    await page.goto(home);
    await expect(page.getByRole("heading", { name: "This browser has no WebGPU" })).toBeVisible();
    await expect(page.getByTestId("error-code")).toHaveText("NO_WEBGPU");
    await expect(page.getByText("Safari")).toBeVisible();
  });

  test("a browser that finds no GPU gets a panel with the remedy", async ({ home }) => {
    const browser = await chromium.launch(await provideChromium({ webGpu: false }));
    try {
      const page = await browser.newPage();
      await page.goto(home);
      await expect(page.getByRole("alert")).toBeVisible();
      await expect(page.getByTestId("error-code")).toHaveText(/NO_ADAPTER|NO_WEBGPU/);
    } finally {
      await browser.close();
    }
  });

  test("a browser whose GPU process starts anew is asked again", async ({ browser, home }) => {
    const context = await browser.newContext({ serviceWorkers: "block" });
    try {
      await context.route("**/assets/worker-*.js", async (route) => {
        const answer = await route.fetch();
        const first = "{const ask=GPU.prototype.requestAdapter;let asked=0;";
        const none = "GPU.prototype.requestAdapter=async function(o){return asked++?ask.call(this,o):null};}";
        await route.fulfill({ response: answer, body: `${first}${none}\n${await answer.text()}` });
      });
      const page = await context.newPage();
      await page.goto(`${home}#model=none`);
      await expect(page.getByLabel("tier")).toBeEnabled();
    } finally {
      await context.close();
    }
  });
});
