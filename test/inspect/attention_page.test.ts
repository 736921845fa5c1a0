import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { attentionPage } from "../../src/inspect/attention_page.ts";

const HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">';

const page = () =>
  attentionPage({
    model: HOSTILE,
    parts: [
      {
        title: HOSTILE,
        queries: [HOSTILE, "b"],
        keys: ["a", HOSTILE],
        layers: [{ layer: 0, heads: [{ head: 0, weights: Float32Array.of(1, 0, 0.25, 0.75), entropy: 0.28 }] }],
      },
    ],
    next: [{ text: HOSTILE, probability: 0.5 }],
  });

it("keeps text out of the markup, and allows its own script and style alone", async () => {
  const html = await page();
  expect(html).not.toContain("<script>alert");
  expect(html).not.toContain("<img");
  const hashOf = (tag: string) => {
    const [, text = ""] = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(html) ?? [];
    return `sha256-${createHash("sha256").update(text).digest("base64")}`;
  };
  const [, policy] = /Content-Security-Policy" content="([^"]*)"/.exec(html) ?? [];
  expect(policy).toBe(
    `default-src 'none'; script-src '${hashOf("script")}'; style-src '${hashOf("style")}'; base-uri 'none'; form-action 'none'`,
  );
  expect(html.replace(/id="data">[\s\S]*?<\/script>/, "")).not.toMatch(/(src|href)=/);
});

it("holds the weights in 16 bits", async () => {
  const html = await page();
  const [, json = "{}"] = /id="data">([\s\S]*?)<\/script>/.exec(html) ?? [];
  const data = JSON.parse(json);
  expect(data.model).toBe(HOSTILE);
  const bytes = Buffer.from(data.parts[0].layers[0].heads[0].weights, "base64");
  expect([0, 2, 4, 6].map((at) => bytes.readUInt16LE(at))).toEqual([65535, 0, 16384, 49151]);
});
