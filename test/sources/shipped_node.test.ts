import { expect, it, vi } from "vitest";
import { SHIPPED_FOLDERS, shippedModel as shippedInPage } from "../../src/sources/shipped.ts";
import { shippedModel } from "../../src/sources/shipped_node.ts";

it("finds a model of the package, or says what is missing", () => {
  let found: string;
  try {
    found = shippedModel("translate");
  } catch (error) {
    expect(error).toMatchObject({ code: "UNSUPPORTED", message: expect.stringContaining("config.json is missing in") });
    return;
  }
  expect(found.endsWith(SHIPPED_FOLDERS.translate)).toBe(true);
});

it("finds a model beside a page, and takes no page for a config", async () => {
  const json = new Response("{}", { headers: { "content-type": "application/json" } });
  const page = new Response("<html>", { headers: { "content-type": "text/html" } });
  const answers: Record<string, Response> = { shakespeare: page, zh_en: json };
  const fetched = vi.spyOn(globalThis, "fetch").mockImplementation(async (url) => {
    const folder = /models\/(.+)\/config\.json$/.exec(String(url))?.[1] ?? "";
    return answers[folder] ?? new Response("", { status: 404 });
  });
  expect(await shippedInPage("translate", "https://a.b/c/")).toBe("https://a.b/c/models/zh_en/");
  await expect(shippedInPage("generate", "https://a.b/c/")).rejects.toThrow(/models\/shakespeare .*missing in https/);
  fetched.mockRestore();
});
