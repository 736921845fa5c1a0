import { expect, it } from "vitest";
import { CompletionNudge } from "../../src/gpu/completion_nudge.ts";

const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const CHROMIUM =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

it("is there for Firefox only", () => {
  const queue = { submit: () => undefined };
  expect(CompletionNudge.for(queue, FIREFOX)).toBeInstanceOf(CompletionNudge);
  expect(CompletionNudge.for(queue, CHROMIUM)).toBeUndefined();
  expect(CompletionNudge.for(queue)).toBeUndefined();
});

it("submits nothing but empty lists, as long as something is waited for", async () => {
  const submits: number[] = [];
  const nudge = CompletionNudge.for({ submit: (list) => void submits.push([...list].length) }, FIREFOX);
  nudge?.enter();
  nudge?.enter();
  await sleep(40);
  expect(submits.length).toBeGreaterThan(1);
  nudge?.leave();
  const before = submits.length;
  await sleep(40);
  expect(submits.length).toBeGreaterThan(before);
  nudge?.leave();
  const after = submits.length;
  await sleep(40);
  expect(submits.length).toBe(after);
  expect(submits.every((length) => length === 0)).toBe(true);
});
