import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Seq2SeqGolden, seq2SeqGoldenPath } from "./seq2seq_goldens.ts";

const SIZE = 61;
const LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?()'-+*/=<>@#&%";

/**
 * A golden checkpoint with a tokenizer of single letters in `folder`, whose ids below 3 are `<pad>`, `</s>` and `<unk>`, as the
 * config of `transformer` has them. `more` fields go into config.json. `languages` are its last ids; of `frame` `$A` is the text.
 */
export function writeSeq2SeqFolder(
  folder: string,
  name: Seq2SeqGolden,
  more: Record<string, unknown> = {},
  { languages = [], frame = ["$A", "</s>"] }: { languages?: readonly string[]; frame?: readonly string[] } = {},
): void {
  mkdirSync(folder, { recursive: true });
  cpSync(seq2SeqGoldenPath(name), folder, { recursive: true });
  if (Object.keys(more).length > 0) {
    writeFileSync(`${folder}/config.json`, JSON.stringify({ ...readConfig(name), ...more }));
  }
  writeFileSync(`${folder}/tokenizer.json`, JSON.stringify(tokenizer(languages, frame)));
  writeFileSync(`${folder}/tokenizer_config.json`, JSON.stringify({ pad_token: "<pad>", eos_token: "</s>" }));
}

function readConfig(name: Seq2SeqGolden): Record<string, unknown> {
  return JSON.parse(readFileSync(`${seq2SeqGoldenPath(name)}/config.json`, "utf8"));
}

function tokenizer(languages: readonly string[], frame: readonly string[]) {
  const special = ["<pad>", "</s>", "<unk>"];
  const pieces = ["▁", ...LETTERS].slice(0, SIZE - special.length - languages.length);
  const vocab = [
    ...special.map((s) => [s, 0]),
    ...pieces.map((p, i) => [p, -3 - i / 100]),
    ...languages.map((l) => [l, 0]),
  ];
  const idOf = (token: string) => vocab.findIndex(([own]) => own === token);
  const framed = frame.filter((part) => part !== "$A");
  const blank = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    added_tokens: [...special, ...languages].map((content) => ({ id: idOf(content), content, ...flags })),
    normalizer: null,
    pre_tokenizer: blank,
    post_processor: {
      type: "TemplateProcessing",
      single: frame.map((id) =>
        id === "$A" ? { Sequence: { id: "A", type_id: 0 } } : { SpecialToken: { id, type_id: 0 } },
      ),
      pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: Object.fromEntries(framed.map((id) => [id, { id, ids: [idOf(id)], tokens: [id] }])),
    },
    decoder: blank,
    model: { type: "Unigram", unk_id: 2, byte_fallback: false, vocab },
  };
}
