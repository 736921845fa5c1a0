import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";

const WRITER = new URL("../fixtures/write_tiny_llama.mjs", import.meta.url).pathname;
const TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>";
const options = { greedy: true, maxTokens: 6 } as const;

let engine: Engine;
let model: TextModel;
const folder = mkdtempSync(join(tmpdir(), "heed-chat-"));

beforeAll(async () => {
  execFileSync(process.execPath, [WRITER, folder]);
  writeFileSync(join(folder, "chat_template.jinja"), TEMPLATE);
  engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
  model = await engine.load(folder);
});
afterAll(async () => {
  await engine?.dispose();
  expect(engine?.device.buffersInUse).toBe(0);
  rmSync(folder, { recursive: true });
});

it("goes on with a conversation as if all of it were asked at once", async () => {
  expect(await model.canChat()).toBe(true);
  using conversation = model.conversation([{ role: "system", content: "Be brief." }]);
  const pieces: string[] = [];
  const first = await conversation.send("Hello", { ...options, onText: (piece) => pieces.push(piece) });
  expect(pieces.join("")).toBe(first.text);
  const second = await conversation.send("And you?", options);
  expect(conversation.messages.map((m) => m.role)).toEqual(["system", "user", "assistant", "user", "assistant"]);
  const whole = await (await model.chat(conversation.messages.slice(0, 4), options)).result;
  expect(second.ids).toEqual(whole.ids);
});

it("refuses messages that are none, and searches on request", async () => {
  await expect(model.chat([])).rejects.toMatchObject({ code: "USAGE" });
  await expect(model.chat([{ role: "user" } as never])).rejects.toMatchObject({ code: "USAGE" });
  const result = await (await model.chat([{ role: "user", content: "Hi" }], { beams: 3, numReturn: 2, maxTokens: 4 }))
    .result;
  expect(result.sequences).toHaveLength(2);
  expect(result.sequences?.[0]?.text).toBe(result.text);
});
