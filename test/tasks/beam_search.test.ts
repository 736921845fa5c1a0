import { describe, expect, it } from "vitest";
import { type BeamOptions, type BeamRow, beamSearch, type BeamStepper } from "../../src/tasks/beam_search.ts";
import type { TokenRules } from "../../src/tasks/token_rules.ts";
import { nextTokens } from "../../src/tasks/token_rules.ts";
import { createRandom } from "../support/random.ts";

const RULES: TokenRules = {
  ...{ noRepeatNgram: 0, badWords: [], suppressed: [], beginSuppressed: [], forcedBos: undefined, forcedEos: [] },
  ...{ minLength: 0, minNewTokens: 0, repetitionPenalty: 1, isRenormalised: false },
};
const OPTIONS: BeamOptions = { beams: 1, numReturn: 1, lengthPenalty: 1, earlyStopping: "never" };

/** A toy language: the log-probabilities of the next of `V` tokens hang on all tokens before. */
function toy(V: number, seed: number) {
  return (ids: readonly number[]): number[] => {
    const random = createRandom(ids.reduce((n, id) => (n * 31 + id + 1) % 1_000_003, seed));
    const logits = [...random.normals(V, 1.5)];
    const lse = Math.log(logits.reduce((s, x) => s + Math.exp(x), 0));
    return logits.map((x) => x - lse);
  };
}

function stepperOf(next: (ids: readonly number[]) => number[]): BeamStepper & { rows: number[] } {
  const rows: number[] = [];
  let open = -1;
  return {
    rows,
    async score(given: readonly BeamRow[], count: number) {
      if (open >= 0) expect(given).toHaveLength(open);
      rows.push(given.length);
      return given.map((row) => {
        const ruled = nextTokens(row.rules, row);
        const may = (id: number) => ("only" in ruled ? ruled.only.includes(id) : !ruled.banned.includes(id));
        const ranked = next(row.ids).map((score, id) => ({ id, score }));
        return ranked
          .filter(({ id }) => may(id))
          .sort((a, b) => b.score - a.score)
          .slice(0, count);
      });
    },
    advance(parents, tokens) {
      expect(parents).toHaveLength(tokens.length);
      open = parents.length;
    },
  };
}

/** Every sequence that ends by token 0 or at `maxTokens`, by falling score. */
function exhaustive(
  next: (ids: readonly number[]) => number[],
  prompt: number[],
  V: number,
  maxTokens: number,
  p: number,
) {
  const done: { ids: number[]; score: number }[] = [];
  const walk = (ids: number[], total: number) => {
    next([...prompt, ...ids]).forEach((logprob, id) => {
      const longer = [...ids, id];
      if (id === 0 || longer.length === maxTokens) {
        done.push({ ids: longer, score: (total + logprob) / longer.length ** p });
      } else walk(longer, total + logprob);
    });
  };
  walk([], 0);
  expect(done.length).toBeGreaterThan(V);
  return done.sort((a, b) => b.score - a.score);
}

describe("beam search", () => {
  // With as many beams as there are open sequences nothing is lost.
  it.each([0, 1, -0.5, 2])("finds what an exhaustive search finds, length penalty %s", async (lengthPenalty) => {
    const [V, maxTokens] = [4, 4];
    const next = toy(V, 11);
    const options = { ...OPTIONS, beams: 81, numReturn: 20, lengthPenalty };
    const request = { ids: [1], maxTokens, eosIds: [0], rules: RULES };
    const [found = []] = await beamSearch(stepperOf(next), [request], options);
    const all = exhaustive(next, [1], V, maxTokens, lengthPenalty).slice(0, 20);
    expect(found.map((f) => f.ids)).toEqual(all.map((a) => a.ids));
    for (const [i, f] of found.entries()) expect(f.score).toBeCloseTo(all[i]?.score ?? 0, 10);
    for (const f of found) {
      expect(f.logprobs.reduce((a, b) => a + b, 0) / f.ids.length ** lengthPenalty).toBeCloseTo(f.score, 10);
    }
  });

  it("gives a batch what each sequence gets alone", async () => {
    const next = toy(9, 5);
    const requests = [[1], [2, 3, 4], [5, 5]].map((ids, i) => ({
      ...{ ids, maxTokens: 5 + i, eosIds: [0] },
      rules: RULES,
    }));
    const options = { ...OPTIONS, beams: 3, numReturn: 3, earlyStopping: false };
    const together = await beamSearch(stepperOf(next), requests, options);
    const alone = await Promise.all(requests.map((r) => beamSearch(stepperOf(next), [r], options)));
    expect(together).toEqual(alone.map(([results]) => results));
  });

  it("with one beam is greedy", async () => {
    const next = toy(12, 3);
    const request = { ids: [4], maxTokens: 6, eosIds: [], rules: RULES };
    const [[best] = []] = await beamSearch(stepperOf(next), [request], OPTIONS);
    const ids = [4];
    for (let i = 0; i < 6; i++) {
      const scores = next(ids);
      ids.push(scores.indexOf(Math.max(...scores)));
    }
    expect(best?.ids).toEqual(ids.slice(1));
  });

  it("stops early as it is told", async () => {
    const steps = async (earlyStopping: boolean | "never", lengthPenalty: number) => {
      const stepper = stepperOf(toy(6, 21));
      const request = { ids: [1], maxTokens: 30, eosIds: [0], rules: RULES };
      await beamSearch(stepper, [request], { ...OPTIONS, beams: 3, earlyStopping, lengthPenalty });
      return stepper.rows.length;
    };
    const [first, usual, never] = [await steps(true, 1), await steps(false, 1), await steps("never", 1)];
    expect(first).toBeLessThanOrEqual(usual);
    expect(usual).toBeLessThan(never);
    expect(never).toBeLessThanOrEqual(30);
  });

  it("honours rules, and charges nothing for what is forced", async () => {
    const next = toy(8, 9);
    const rules = { ...RULES, noRepeatNgram: 2, forcedBos: 7, forcedEos: [0], suppressed: [3] };
    const request = { ids: [1], maxTokens: 7, eosIds: [0], rules };
    const [found = []] = await beamSearch(stepperOf(next), [request], { ...OPTIONS, beams: 4, numReturn: 4 });
    expect(found.length).toBe(4);
    for (const { ids, logprobs } of found) {
      expect([ids[0], logprobs[0]]).toEqual([7, 0]);
      expect(ids).not.toContain(3);
      expect(ids.at(-1)).toBe(0);
      const pairs = ids.slice(1).map((id, i) => `${ids[i]} ${id}`);
      expect(new Set(pairs).size).toBe(pairs.length);
    }
  });

  it("ends between two steps when it is aborted", async () => {
    const abort = new AbortController();
    const request = { ids: [1], maxTokens: 50, eosIds: [], rules: RULES };
    const onStep = (tokens: number) => tokens === 3 && abort.abort();
    const stepper = stepperOf(toy(6, 2));
    await expect(
      beamSearch(stepper, [request], { ...OPTIONS, beams: 2, signal: abort.signal, onStep }),
    ).rejects.toMatchObject({ code: "ABORTED" });
    expect(stepper.rows.length).toBe(3);
  });
});
