import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EncoderGoldenName, encoderGoldenPath } from "./encoder_goldens.ts";

/** Ids 0 to 60: the golden encoders' whole vocabulary. */
const VOCABULARY = [
  ...["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", ".", "?", ",", "the", "a", "ada", "london", "wrote", "lived", "in"],
  ...[
    "first",
    "program",
    "who",
    "what",
    "where",
    "##s",
    "##er",
    "##ly",
    "did",
    "live",
    "city",
    "is",
    "was",
    "and",
    "of",
  ],
  ...[
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "cat",
    "dog",
    "sat",
    "mat",
    "on",
    "old",
    "new",
    "big",
    "small",
    "red",
  ],
  ...[
    "blue",
    "green",
    "love",
    "##lace",
    "##don",
    "lon",
    "write",
    "code",
    "read",
    "book",
    "word",
    "text",
    "line",
    "end",
    "!",
  ],
];

/** A golden encoder with a WordPiece tokenizer, in a folder of its own that `remove` deletes. */
export function tinyEncoder(
  name: EncoderGoldenName,
  extra: Readonly<Record<string, unknown>> = {},
): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `heed-${name}-`));
  for (const file of ["config.json", "model.safetensors"])
    copyFileSync(join(encoderGoldenPath(name), file), join(path, file));
  const special = (content: string, type_id = 0) => ({ SpecialToken: { id: content, type_id } });
  const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const tokenizer = {
    version: "1.0",
    added_tokens: VOCABULARY.slice(0, 5).map((content, id) => ({
      ...{ id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [special("[CLS]"), sequence("A", 0), special("[SEP]")],
      pair: [special("[CLS]"), sequence("A", 0), special("[SEP]"), sequence("B", 1), special("[SEP]", 1)],
      special_tokens: Object.fromEntries(
        ["[CLS]", "[SEP]"].map((t) => [t, { id: t, ids: [VOCABULARY.indexOf(t)], tokens: [t] }]),
      ),
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      ...{ type: "WordPiece", unk_token: "[UNK]", continuing_subword_prefix: "##", max_input_chars_per_word: 100 },
      vocab: Object.fromEntries(VOCABULARY.map((token, id) => [token, id])),
    },
  };
  writeFileSync(join(path, "tokenizer.json"), JSON.stringify(tokenizer));
  for (const [file, content] of Object.entries(extra)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), JSON.stringify(content));
  }
  return { path, remove: () => rmSync(path, { recursive: true }) };
}
