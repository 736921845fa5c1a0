import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { openTokenizers, type Tokenizers } from "../../src/text/open_tokenizers.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { readJson } from "../support/assets.ts";
import { createRandom, testSeed } from "../support/random.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/tokenizer_files", import.meta.url));
const OLDER = fileURLToPath(new URL("../fixtures/tokenizers", import.meta.url));
const STRINGS = readJson<string[]>(join(FIXTURES, "strings.json"));
const NAMES = readdirSync(FIXTURES, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
);
/** Prints the first differences in full, where the script's FOLDER is given. */
const FULL = process.env["HEED_TOKENIZER_IDS"];

async function open(name: string): Promise<Tokenizers> {
  if (name.startsWith("json_")) {
    const read = (file: string) => readJson<unknown>(join(OLDER, name.slice(5), file));
    return { source: loadTokenizer(read("tokenizer.json")) };
  }
  const folder = join(FIXTURES, name);
  const tokenizers = await openTokenizers({
    source: await folderSource(folder),
    config: readJson<Record<string, unknown>>(join(folder, "config.json")),
  });
  if (!tokenizers) throw new Error(`no tokenizer in ${name}`);
  return tokenizers;
}

describe.each(NAMES)("the tokenizer of %s", (name) => {
  it("gives the reference's ids and text for 2,000 strings", async () => {
    const { source, target = source } = await open(name);
    const golden = readFileSync(join(FIXTURES, name, "golden.bin"));
    expect(golden.length).toBe(STRINGS.length * 8);
    const wrong: string[] = [];
    const lines: unknown[] = [];
    STRINGS.forEach((text, i) => {
      const ids = source.encode(text);
      const shown = ids.filter((id) => !isHidden(name, id, source.unkId));
      const decoded = target.decode(shown);
      if (fnv(bytesOfIds(ids)) !== golden.readUInt32LE(8 * i)) wrong.push(`ids of ${JSON.stringify(text)}`);
      else if (fnv(new TextEncoder().encode(decoded)) !== golden.readUInt32LE(8 * i + 4)) {
        wrong.push(`text of ${JSON.stringify(text)}`);
      } else return;
      lines.push([i, text, ids, decoded]);
    });
    if (FULL) writeFileSync(join(FULL, `${name}.heed.json`), JSON.stringify(lines));
    expect(wrong.slice(0, 5), `${wrong.length} differ`).toEqual([]);
  });
});

describe("tokenizers of older files", () => {
  it("frame pairs as BERT and RoBERTa do", async () => {
    const bert = (await open("bert")).source;
    const { ids, typeIds, starts } = bert.encodePair("the dog", "the cat");
    const [first, second] = ["the dog", "the cat"].map((text) => bert.encode(text, { addSpecialTokens: false })) as [
      number[],
      number[],
    ];
    expect(ids).toEqual([bert.clsId, ...first, bert.sepId, ...second, bert.sepId]);
    expect(typeIds).toEqual([...first.map(() => 0), 0, 0, ...second.map(() => 1), 1]);
    expect(starts).toEqual([1, first.length + 2]);
    const roberta = (await open("roberta")).source;
    const pair = roberta.framePair([7], [8, 9]);
    const [s, e] = [roberta.tokenToId("<s>"), roberta.tokenToId("</s>")];
    expect(pair).toEqual({ ids: [s, 7, e, e, 8, 9, e], typeIds: [0, 0, 0, 0, 0, 0, 0], starts: [1, 4] });
    expect(roberta.framePair([7]).ids).toEqual([s, 7, e]);
    expect(roberta.maskId).toBe(roberta.tokenToId("<mask>"));
  });

  it.each(["bert", "gpt2", "roberta", "llama", "t5", "marian"])("say where the tokens of %s stand", async (name) => {
    const { source } = await open(name);
    const text = "Once upon a time,  the cat said: naïve 42 ☃ cafés";
    const { ids, offsets } = source.encodeWithOffsets(text);
    expect(ids).toEqual(source.encode(text, { addSpecialTokens: false }));
    expect(offsets.length).toBe(ids.length);
    let end = 0;
    offsets.forEach(([from, to], i) => {
      expect(from).toBeGreaterThanOrEqual(Math.min(end, from));
      expect(to).toBeGreaterThanOrEqual(end);
      end = to;
      const piece = (source.idToToken(ids[i] ?? -1) ?? "").replace(/^##|[▁Ġ]/g, "");
      if (/^[A-Za-z0-9:,]+$/.test(piece)) expect(bare(text.slice(from, to))).toBe(bare(piece));
    });
    expect(end).toBe(text.length);
  });

  it("read special tokens in a text where they may: T5's sentinels, BERT's mask", async () => {
    const t5 = (await open("t5")).source;
    const sentinel = t5.tokenToId("<extra_id_0>");
    expect(sentinel).toBe(t5.vocabSize - 1);
    expect(t5.encode("a <extra_id_0> b", { allowSpecial: true })).toContain(sentinel);
    expect(t5.encode("a <extra_id_0> b")).not.toContain(sentinel);
    const bert = (await open("bert")).source;
    expect(bert.encode("the [MASK] dog", { allowSpecial: true }).filter((id) => id === bert.maskId)).toHaveLength(1);
  });

  it("name the language of Marian at the start of a text alone", async () => {
    const { source } = await open("marian");
    const french = source.tokenToId(">>fr<<");
    expect(source.encode(">>fr<<the dog")[0]).toBe(french);
    expect(source.encode("the >>fr<< dog")).not.toContain(french);
  });

  it("give Marian's target a vocabulary of its own where the settings say so", async () => {
    const read = (name: string) => readFileSync(join(FIXTURES, "marian", name));
    const ids = Object.entries(JSON.parse(read("vocab.json").toString()) as Record<string, number>);
    const turned = Object.fromEntries(ids.map(([piece, id]) => [piece, ids.length - 1 - id]));
    const files: [string, string | Uint8Array][] = [
      ["source.spm", read("source.spm")],
      ["target.spm", read("target.spm")],
      ["vocab.json", read("vocab.json")],
      ["tokenizer_config.json", JSON.stringify({ separate_vocabs: true })],
    ];
    const opened = (all: typeof files) => {
      const source = filesSource(new Map(all.map(([name, content]) => [name, new Blob([content as BlobPart])])));
      return openTokenizers({ source, config: { model_type: "marian" } });
    };
    await expect(opened(files)).rejects.toThrow(/separate_vocabs comes with target_vocab\.json/);
    const found = await opened([...files, ["target_vocab.json", JSON.stringify(turned)]]);
    const shared = await open("marian");
    const text = "the dog";
    expect(found?.source.encode(text)).toEqual(shared.source.encode(text));
    const own = shared.target?.encode(text) ?? [];
    expect(found?.target?.encode(text)).toEqual(own.map((id) => ids.length - 1 - id));
    expect(found?.target?.decode(own.map((id) => ids.length - 1 - id))).toBe(shared.target?.decode(own));
  });

  it("refuse damaged SentencePiece files with typed errors, in no time", async () => {
    const good = readFileSync(join(FIXTURES, "llama", "tokenizer.model"));
    const random = createRandom(testSeed("damaged spm", 31));
    const codes = new Set<string>();
    for (let run = 0; run < (process.env["HEED_LONG"] === "1" ? 5000 : 200); run++) {
      const bytes = Uint8Array.from(
        good.subarray(0, random.int(0, 2) === 0 ? random.int(0, good.length) : good.length),
      );
      for (let n = random.int(0, 6); n > 0 && bytes.length > 0; n--)
        bytes[random.int(0, bytes.length - 1)] = random.int(0, 255);
      const source = filesSource(new Map([["tokenizer.model", new Blob([bytes])]]));
      try {
        const tokenizers = await openTokenizers({ source, config: { model_type: "llama" } });
        tokenizers?.source.decode(tokenizers.source.encode("Once upon a time, 你好 🙂"));
        codes.add("none");
      } catch (error) {
        codes.add(isHeedError(error) ? error.code : String(error));
      }
    }
    expect([...codes].filter((code) => !["none", "BAD_FILE", "UNSUPPORTED"].includes(code))).toEqual([]);
    expect(codes.has("BAD_FILE")).toBe(true);
  });
});

function bare(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

/** SentencePiece writes ⁇ for the unknown token, which is left out of the comparison. */
function isHidden(name: string, id: number, unkId: number | undefined): boolean {
  return name === "t5" && id === unkId;
}

function bytesOfIds(ids: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(ids).buffer);
}

function fnv(bytes: Uint8Array): number {
  let value = 0x811c9dc5;
  for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}
