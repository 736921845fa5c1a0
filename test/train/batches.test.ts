import { expect, it } from "vitest";
import { EpochBatches, type ItemStream, StreamedBatches } from "../../src/train/batches.ts";
import { uniformGenerator } from "../../src/train/initialise.ts";
import { itemBatching, type TokenItem } from "../../src/train/item_batches.ts";
import type { Batch } from "../../src/train/objective.ts";
import { windowBatching } from "../../src/train/windows.ts";

const LINES = 23;
const ITEMS: TokenItem[] = Array.from({ length: LINES }, (_, i) => ({
  ids: Array.from({ length: 1 + ((7 * i) % 12) }, () => i + 1),
  targets: [i],
}));
const BATCHING = itemBatching({ batch: 3, length: 12, inputs: ["lengths"], targetsEach: 1 });

/** A file whose even lines have an example each; `opened` counts how often it was begun, and at which line. */
function fileOf(items: readonly TokenItem[], buffer: number, opened: number[] = []): ItemStream<TokenItem> {
  return {
    buffer,
    async *read(afterLine) {
      opened.push(afterLine);
      for (const [i, item] of items.entries()) {
        const line = 2 * (i + 1);
        if (line > afterLine) yield { line, items: [item] };
      }
    },
  };
}

/** The examples of a batch, by their targets. */
function examplesOf({ inputs }: Batch): number[] {
  return [...(inputs["targets"] as Int32Array)].filter((target) => target >= 0);
}

async function take(source: { next(): Batch | Promise<Batch> }, count: number): Promise<Batch[]> {
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) batches.push(await source.next());
  return batches;
}

it("goes through every example of a stream once an epoch, in another order each time", async () => {
  const opened: number[] = [];
  const stream = new StreamedBatches(fileOf(ITEMS, 6, opened), BATCHING, 4);
  const epochs: number[][] = [];
  while (epochs.length < 3) {
    const own: number[] = [];
    while (own.length < LINES) own.push(...examplesOf(await stream.next()));
    epochs.push(own);
  }
  for (const own of epochs) expect([...own].sort((a, b) => a - b)).toEqual(ITEMS.map((_, i) => i));
  expect(epochs[0]).not.toEqual(epochs[1]);
  expect(opened).toEqual([0, 0, 0]);
  // Of the first buffer's six the first batches are made.
  expect(Math.max(...(epochs[0]?.slice(0, 6) ?? []))).toBeLessThan(6);
});

it.each([1, 4, 23, 100])(
  "goes on at any place of a stream as if it had not stopped, %i lines a buffer",
  async (buffer) => {
    const whole = await take(new StreamedBatches(fileOf(ITEMS, buffer), BATCHING, 4), 60);
    for (const stop of [0, 1, 7, 11, 24, 40]) {
      const first = new StreamedBatches(fileOf(ITEMS, buffer), BATCHING, 4);
      const before = await take(first, stop);
      const second = new StreamedBatches(fileOf(ITEMS, buffer), BATCHING, 4);
      second.restore(JSON.parse(JSON.stringify(first.state())));
      expect([...before, ...(await take(second, 60 - stop))], `stopped after ${stop}`).toEqual(whole);
      // A batch that was not used is read again.
      const state = second.state();
      const next = await second.next();
      second.restore(state);
      expect(await second.next()).toEqual(next);
    }
  },
);

it("refuses a stream without examples, and a state of something else", async () => {
  await expect(new StreamedBatches(fileOf([], 4), BATCHING, 1).next()).rejects.toThrow(/at least one example/);
  const blank: ItemStream<TokenItem> = {
    buffer: 2,
    read: async function* () {
      yield { line: 1, items: [] };
    },
  };
  await expect(new StreamedBatches(blank, BATCHING, 1).next()).rejects.toThrow(/at least one example/);
  expect(() => new StreamedBatches(fileOf(ITEMS, 4), BATCHING, 1).restore({ epoch: 1 })).toThrow(/state of shuffled/);
  expect(() => new EpochBatches(ITEMS, BATCHING, 1).restore(3)).toThrow(/state of shuffled/);
  expect(() => new EpochBatches([], BATCHING, 1)).toThrow(/at least one example/);
});

it("cuts the lines of a buffer into windows that predict each token from the one before", () => {
  const batching = windowBatching({ batch: 2, length: 5 });
  const lines = [9, 4, 13].map((length, i) => Uint32Array.from({ length }, (_, t) => 100 * i + t));
  const text = lines.flatMap((line) => [...line]);
  const groups = batching.groups(lines, uniformGenerator(3));
  const seen = new Set<number>();
  for (const group of groups) {
    const { shape, inputs, count } = batching.batch(group);
    const [tokens, targets] = [inputs["tokens"] as Uint32Array, inputs["targets"] as Int32Array];
    expect(shape).toEqual({ batch: 2, length: 5 });
    expect([...targets].filter((target) => target !== -100)).toHaveLength(count);
    targets.forEach((target, n) => {
      if (target === -100) return;
      seen.add(target);
      expect(target).toBe(text[text.indexOf(tokens[n] as number) + 1]);
    });
  }
  // All but those before the first window's beginning.
  expect(seen.size).toBeGreaterThan(text.length - 1 - 5);
});

it("does not take a bad line for the end of a stream when it is asked again", async () => {
  const stream: ItemStream<TokenItem> = {
    buffer: 2,
    async *read(afterLine) {
      for (const [i, item] of ITEMS.slice(0, 6).entries()) {
        if (i === 3) throw new Error("line 4");
        if (i + 1 > afterLine) yield { line: i + 1, items: [item] };
      }
    },
  };
  const batches = new StreamedBatches(stream, BATCHING, 4);
  const untilBad = async (): Promise<void> => {
    for (let i = 0; i < 9; i++) await batches.next();
  };
  await expect(untilBad()).rejects.toThrow("line 4");
  await expect(untilBad()).rejects.toThrow("line 4");
});
