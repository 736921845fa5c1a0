import { describe, expect, it } from "vitest";
import { createChatTemplate, openChatTemplate } from "../../src/text/chat_template.ts";
import { isHeedError } from "../../src/core/errors.ts";
import type { Source } from "../../src/core/source.ts";

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: " Hello {{ 1 + 1 }} " },
];

function sourceOf(files: Record<string, string>): Source {
  return {
    description: "a test",
    open: async () => undefined,
    readText: async (name: string) => files[name],
  } as unknown as Source;
}

function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return isHeedError(error) ? `${error.code}: ${error.message}` : String(error);
  }
  return "nothing was thrown";
}

describe("chat templates", () => {
  it("render messages, which are no templates themselves", () => {
    const text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello {{ 1 + 1 }}<|im_end|>\n";
    expect(createChatTemplate(CHATML).render(MESSAGES)).toBe(`${text}<|im_start|>assistant\n`);
    expect(createChatTemplate(CHATML).render(MESSAGES, { addGenerationPrompt: false })).toBe(text);
  });

  it("are found in every place that checkpoints have for them", async () => {
    const render = async (files: Record<string, string>, options = {}) =>
      (await openChatTemplate(sourceOf(files)))?.render(MESSAGES, options);
    const config = (fields: object) => JSON.stringify({ bos_token: { content: "<s>" }, eos_token: "</s>", ...fields });
    const tokens = "{{ bos_token }}{{ messages | length }}{{ eos_token }}";
    expect(await render({ "tokenizer_config.json": config({ chat_template: tokens }) })).toBe("<s>2</s>");
    expect(await render({ "tokenizer_config.json": config({ chat_template: "a" }), "chat_template.jinja": "b" })).toBe(
      "b",
    );
    expect(await render({ "chat_template.json": JSON.stringify({ chat_template: "c" }) })).toBe("c");
    const list = [
      { name: "default", template: "d" },
      { name: "tool_use", template: "{{ tools[0].name }}" },
    ];
    const files = { "tokenizer_config.json": config({ chat_template: list }) };
    expect(await render(files)).toBe("d");
    expect(await render(files, { tools: [{ name: "clock" }] })).toBe("clock");
    expect(await render({ "tokenizer_config.json": config({}) })).toBeUndefined();
    await expect(render({ "tokenizer_config.json": config({ chat_template: 7 }) })).rejects.toMatchObject({
      code: "BAD_FILE",
    });
  });

  it("tell what they refuse", () => {
    const template = createChatTemplate("{{ raise_exception('roles must alternate') }}");
    expect(failure(() => template.render(MESSAGES))).toMatch(/^USAGE: .*roles must alternate/);
  });

  it.each([
    ["a loop in a loop", "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"],
    ["a long range", "{% for a in range(1000000000) %}{% endfor %}"],
    ["a text that doubles", `{% set s = 'aaaaaaaa' %}${"{% set s = s + s %}".repeat(40)}{{ s }}`],
    ["a list that doubles", `{% set s = [1, 2] %}${"{% set s = s + s %}".repeat(40)}`],
    ["an endless recursion", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"],
    ["a wide indent", "{{ 'a' | indent(500000000, true) }}"],
    ["a broken one", "{% if %}"],
    ["one that reaches for the language", "{{ messages.constructor.constructor('return process')() }}"],
  ])("give up on %s", (_, text) => {
    const started = performance.now();
    expect(failure(() => createChatTemplate(text).render(MESSAGES))).toMatch(/^BAD_FILE: chat: /);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
