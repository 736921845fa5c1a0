import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { loadTokenizer, type Tokenizer } from "../../src/text/tokenizer.ts";
import { describeWithAssets, readJson } from "../support/assets.ts";
import { createRandom, type Random, testSeed } from "../support/random.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/tokenizers", import.meta.url));
const NAMES = readdirSync(FIXTURES);

interface Expected {
  vocabSize: number;
  cases: {
    text: string;
    ids: number[];
    exactIds: number[];
    /** With special tokens read as text; a unigram model still finds those that are pieces of its own. */
    plainIds: number[];
    decoded: string;
    decodedWithSpecial: string;
  }[];
}

function load(name: string): { tokenizer: Tokenizer; expected: Expected } {
  const folder = join(FIXTURES, name);
  const read = (file: string) => readJson<unknown>(join(folder, file));
  const tokenizer = loadTokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
  return { tokenizer, expected: read("expected.json") as Expected };
}

describe.each(NAMES)("tokenizer %s", (name) => {
  const { tokenizer, expected } = load(name);

  it("gives the ids of the Rust library, with and without what surrounds a text", () => {
    for (const { text, ids, exactIds } of expected.cases) {
      expect(tokenizer.encode(text, { allowSpecial: true }), text).toEqual(ids);
      expect(tokenizer.encode(text, { allowSpecial: true, addSpecialTokens: false }), text).toEqual(exactIds);
    }
  });

  it("gives its text, with and without special tokens", () => {
    for (const { text, ids, exactIds, decoded, decodedWithSpecial } of expected.cases) {
      expect(tokenizer.decode(exactIds), text).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecial: false }), text).toBe(decodedWithSpecial);
    }
  });

  it("never makes a special id from text by default", () => {
    const unknown = [tokenizer.tokenToId("<unk>"), tokenizer.tokenToId("[UNK]")];
    const isForbidden = (id: number): boolean => tokenizer.isSpecial(id) && !unknown.includes(id);
    for (const { text, plainIds } of expected.cases) {
      const ids = tokenizer.encode(text, { addSpecialTokens: false });
      expect(ids.filter(isForbidden), text).toEqual([]);
      if (!plainIds.some(isForbidden)) expect(ids, text).toEqual(plainIds);
    }
  });

  it("streams any ids to the text of the whole, after any others too", () => {
    const random = createRandom(testSeed(`streaming ${name}`, 17));
    for (let round = 0; round < 200; round++) {
      const ids = Array.from(random.ints(random.int(0, 24), 0, tokenizer.vocabSize - 1));
      const skipSpecial = random.int(0, 1) === 1;
      const stream = tokenizer.detokenizer({ skipSpecial });
      const pieces = ids.map((id) => stream.push(id));
      const text = pieces.join("") + stream.flush();
      expect(text, JSON.stringify(ids)).toBe(tokenizer.decode(ids, { skipSpecial }));
      for (const piece of pieces) expect(isWellFormed(piece), JSON.stringify(ids)).toBe(true);

      const cut = random.int(0, ids.length);
      const start = tokenizer.detokenizer({ skipSpecial });
      const before = ids.slice(0, cut).map((id) => start.push(id));
      const rest = tokenizer.detokenizer({ skipSpecial, after: ids.slice(0, cut) });
      const after = ids.slice(cut).map((id) => rest.push(id));
      expect(before.join("") + after.join("") + rest.flush(), JSON.stringify(ids)).toBe(text);
    }
  });

  it("knows its pieces", () => {
    expect(tokenizer.vocabSize).toBe(expected.vocabSize);
    expect(tokenizer.idToToken(-1)).toBeUndefined();
    expect(tokenizer.idToToken(tokenizer.vocabSize)).toBeUndefined();
    expect(tokenizer.decode([tokenizer.vocabSize + 5])).toBe("");
    const piece = tokenizer.idToToken(tokenizer.vocabSize - 1) as string;
    expect(tokenizer.tokenToId(piece)).toBe(tokenizer.vocabSize - 1);
  });
});

describe("tokenizer", () => {
  it("holds bytes back until they are a character", () => {
    for (const name of ["byte_level", "llama_bpe"]) {
      const { tokenizer } = load(name);
      const ids = tokenizer.encode("好🙂", { addSpecialTokens: false });
      const stream = tokenizer.detokenizer();
      const pieces = ids.map((id) => stream.push(id)).filter((piece) => piece.trim() !== "");
      expect(pieces, name).toEqual(["好", "🙂"]);
      expect(stream.flush()).toBe("");
      const cut = ids
        .slice(0, -1)
        .map((id) => stream.push(id))
        .join("");
      expect([cut.trim(), stream.flush()], name).toEqual(["好", "\ufffd"]);
    }
  });

  it("keeps the space between a prompt and what follows it", () => {
    const { tokenizer } = load("llama_bpe");
    const next = tokenizer.encode("time", { addSpecialTokens: false });
    const text = (after: number[]) => {
      const stream = tokenizer.detokenizer({ after });
      return next.map((id) => stream.push(id)).join("") + stream.flush();
    };
    expect(text(tokenizer.encode("Once upon a"))).toBe(" time");
    expect(text(tokenizer.encode(""))).toBe("time");
  });

  it("names the begin and end of a text, and lets tokenizer_config.json decide what is added", () => {
    const { tokenizer } = load("llama_bpe");
    expect([tokenizer.bosId, tokenizer.eosId]).toEqual([1, 2]);
    const folder = join(FIXTURES, "llama_bpe");
    const config = readJson<Record<string, unknown>>(join(folder, "tokenizer_config.json"));
    const changed = { ...config, add_bos_token: false, add_eos_token: true };
    const other = loadTokenizer(readJson(join(folder, "tokenizer.json")), changed);
    expect(other.encode("a")).toEqual([...tokenizer.encode("a", { addSpecialTokens: false }), 2]);
  });

  it("refuses what is no tokenizer with BAD_FILE, and a decoder that it does not know with UNSUPPORTED", () => {
    const json = readJson<Record<string, unknown>>(join(FIXTURES, "byte_level", "tokenizer.json"));
    const bad: unknown[] = [null, [], "x", {}, { model: {} }, { ...json, added_tokens: [{ id: "0" }] }];
    bad.push({ ...json, model: { type: "BPE", vocab: null } });
    for (const value of bad)
      expect(
        codeOf(() => loadTokenizer(value)),
        JSON.stringify(value)?.slice(0, 60),
      ).toBe("BAD_FILE");
    expect(codeOf(() => loadTokenizer({ ...json, model: { type: "WordLevel", vocab: {} } }))).toBe("UNSUPPORTED");
    const strange = loadTokenizer({ ...json, decoder: { type: "CTC" } }, {});
    expect(codeOf(() => strange.decode([1]))).toBe("UNSUPPORTED");
  });
});

describe("a damaged tokenizer.json", () => {
  const runs = process.env["HEED_LONG"] === "1" ? 10_000 : 100;

  it.each(NAMES)("gives a typed error or works, and never hangs (%s)", (name) => {
    const random = createRandom(testSeed(`damage ${name}`, 23));
    const text = readFileSync(join(FIXTURES, name, "tokenizer.json"), "utf8");
    let refused = 0;
    for (let run = 0; run < runs; run++) {
      const json: unknown = damage(JSON.parse(text), random);
      const start = performance.now();
      const code = codeOf(() => {
        const tokenizer = loadTokenizer(json, { bos_token: "<s>" });
        tokenizer.decode(tokenizer.encode("Once upon a time, 你好 🙂 </s>", { allowSpecial: run % 2 === 0 }));
      });
      if (code !== "no error") refused++;
      expect(["no error", "BAD_FILE", "UNSUPPORTED"]).toContain(code);
      expect(performance.now() - start).toBeLessThan(1000);
    }
    expect(refused).toBeGreaterThan(0);
  });
});

/** Replaces or removes one value, at a place drawn level by level. */
function damage(json: unknown, random: Random): unknown {
  const values = [null, -1, 0.5, 2 ** 40, "", "x", true, [], {}, [null], { type: "Sequence" }, "__proto__"];
  if (typeof json !== "object" || json === null || Object.keys(json).length === 0 || random.uniform() < 0.1) {
    return random.pick(values);
  }
  const key = random.pick(Object.keys(json));
  const target = json as Record<string, unknown>;
  if (random.uniform() < 0.1 && Array.isArray(json)) json.splice(Number(key), 1);
  else if (random.uniform() < 0.1 && !Array.isArray(json)) delete target[key];
  else target[key] = damage(target[key], random);
  return json;
}

describeWithAssets("tokenizer of stories260K", "models/stories260K", (path) => {
  it("gives the expected ids and text", () => {
    const read = (file: string) => readJson<unknown>(join(path, file));
    const tokenizer = loadTokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
    const cases = read("expected.json") as {
      prompt: string;
      ids: number[];
      greedy_ids: number[];
      greedy_text: string;
    }[];
    expect(cases.length).toBeGreaterThan(0);
    for (const { prompt, ids, greedy_ids, greedy_text } of cases) {
      expect(tokenizer.encode(prompt), prompt).toEqual(ids);
      expect(tokenizer.decode([...ids, ...greedy_ids]), prompt).toBe(greedy_text);
    }
  });
});

function isWellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text);
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isHeedError(error)) return error.code;
    throw error;
  }
  return "no error";
}
