import { describe, expect, it } from "vitest";
import { nextTokens, packBanned, sameRulesFor, type TokenRules } from "../../src/tasks/token_rules.ts";

const NONE: TokenRules = {
  ...{ noRepeatNgram: 0, badWords: [], suppressed: [], beginSuppressed: [], forcedBos: undefined, forcedEos: [] },
  ...{ minLength: 0, minNewTokens: 0, repetitionPenalty: 1, isRenormalised: false },
};
const at = (ids: number[], promptLength = 1) => ({ ids, promptLength, maxTokens: 6, eosIds: [2, 3] });
const banned = (rules: Partial<TokenRules>, ids: number[], promptLength = 1) => {
  const next = nextTokens({ ...NONE, ...rules }, at(ids, promptLength));
  return "banned" in next ? [...new Set(next.banned)].sort((a, b) => a - b) : next;
};

describe("rules of the next token", () => {
  it("ban what would make a run come again", () => {
    expect(banned({ noRepeatNgram: 3 }, [5, 6, 7, 5, 6])).toEqual([7]);
    expect(banned({ noRepeatNgram: 2 }, [5, 6, 5, 7, 5])).toEqual([6, 7]);
    expect(banned({ noRepeatNgram: 1 }, [5, 6])).toEqual([5, 6]);
    expect(banned({ noRepeatNgram: 4 }, [5, 6])).toEqual([]);
  });
  it("ban the last token of a bad run where the others stand before it", () => {
    expect(banned({ badWords: [[9], [5, 6, 8], [6, 5]] }, [1, 5, 6])).toEqual([5, 8, 9]);
    expect(banned({ badWords: [[5, 6, 8]] }, [6])).toEqual([]);
  });
  it("hold end tokens back, and suppress some tokens always or at first", () => {
    expect(banned({ minNewTokens: 2 }, [1, 7])).toEqual([2, 3]);
    expect(banned({ minNewTokens: 2 }, [1, 7, 8])).toEqual([]);
    expect(banned({ minLength: 3 }, [1, 7])).toEqual([2, 3]);
    expect(banned({ suppressed: [4], beginSuppressed: [6] }, [1])).toEqual([4, 6]);
    expect(banned({ suppressed: [4], beginSuppressed: [6] }, [1, 7])).toEqual([4]);
  });
  it("force the token after a single one, and the last", () => {
    expect(banned({ forcedBos: 7 }, [1])).toEqual({ only: [7] });
    expect(banned({ forcedBos: 7 }, [1, 1], 2)).toEqual([]);
    expect(banned({ forcedEos: [2] }, [1, 4, 4, 4, 4, 4])).toEqual({ only: [2] });
    expect(banned({ forcedEos: [2] }, [1, 4, 4, 4, 4])).toEqual([]);
  });
  it("say for how many tokens they stay the same", () => {
    const same = (rules: Partial<TokenRules>, ids: number[]) => sameRulesFor({ ...NONE, ...rules }, at(ids));
    expect(same({ suppressed: [4] }, [1])).toBe(Number.POSITIVE_INFINITY);
    expect(same({ noRepeatNgram: 2 }, [1])).toBe(1);
    expect(same({ badWords: [[4]] }, [1])).toBe(Number.POSITIVE_INFINITY);
    expect(same({ badWords: [[4, 5]] }, [1])).toBe(1);
    expect(same({ minNewTokens: 4 }, [1, 7])).toBe(3);
    expect(same({ forcedEos: [2] }, [1, 7])).toBe(4);
    expect(same({ beginSuppressed: [2] }, [1])).toBe(1);
  });
  it("become a bit a token", () => {
    expect([...packBanned({ banned: [0, 33, 99] }, 40)]).toEqual([1, 2]);
    expect([...packBanned({ only: [33] }, 40)]).toEqual([0xffffffff, ~2 >>> 0]);
  });
});
