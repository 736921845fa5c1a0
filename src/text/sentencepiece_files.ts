import { type JsonObject, readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import { badFile, describe, isId } from "./json_fields.ts";
import { PIECE, readSentencePiece, type SentencePieceModel } from "./sentencepiece.ts";
import { addedTokens, type TokenizerJson, type TokenizerSettings, tokenName } from "./vocab_files.ts";

const MAX_MODEL_BYTES = 64 << 20;
/** The names under which SentencePiece models are published: Llama's and Gemma's, T5's and ALBERT's, BART's relatives'. */
const NAMES = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model"];

/** A tokenizer from a repository's one SentencePiece model; `undefined` where it has none. */
export async function openSentencePieceFile(settings: TokenizerSettings): Promise<TokenizerJson | undefined> {
  for (const name of NAMES) {
    const file = await readModelFile(settings, name);
    if (file) return sentencePieceJson(file, settings);
  }
  return undefined;
}

async function readModelFile(
  { source, options }: TokenizerSettings,
  name: string,
): Promise<SentencePieceModel | undefined> {
  const file = await source.open(name, options);
  if (!file) return undefined;
  if (file.sizeBytes > MAX_MODEL_BYTES)
    throw badFile(`${name} has at most ${MAX_MODEL_BYTES} bytes`, `${file.sizeBytes}`);
  return readSentencePiece(await file.read(0, file.sizeBytes, options));
}

function sentencePieceJson(file: SentencePieceModel, { config, kind }: TokenizerSettings): TokenizerJson {
  const ids = new Map(file.pieces.map(({ piece }, id) => [piece, id]));
  const isT5 = /t5/i.test(kind);
  const isAlbert = /albert/i.test(kind);
  const extra = isT5 ? extraIds(config, file.pieces.length) : [];
  for (const [token, id] of extra) ids.set(token, id);
  const piece = (id: number): string | undefined => file.pieces[id]?.piece;
  const all: JsonObject = {
    unk_token: piece(file.unkId),
    ...(file.padId >= 0 && { pad_token: piece(file.padId) }),
    ...(isT5
      ? { eos_token: "</s>", pad_token: "<pad>" }
      : { bos_token: piece(file.bosId), eos_token: piece(file.eosId) }),
    ...(isAlbert && { cls_token: "[CLS]", sep_token: "[SEP]", mask_token: "[MASK]", pad_token: "<pad>" }),
    ...config,
    // Llama's class puts <s> before a text unless its settings say otherwise; T5's </s> after it.
    ...(isAlbert
      ? {}
      : { add_bos_token: config["add_bos_token"] ?? !isT5, add_eos_token: config["add_eos_token"] ?? isT5 }),
  };
  const control = file.pieces.filter(({ type }) => type === PIECE.control || type === PIECE.unknown);
  const specials = [...control.map((entry) => entry.piece), ...extra.map(([token]) => token)];
  const [cls, sep] = [ids.get("[CLS]"), ids.get("[SEP]")];
  const json = {
    normalizer: isAlbert ? albertNormalizer(file, config) : file.normalizer,
    pre_tokenizer: null,
    post_processor:
      isAlbert && cls !== undefined && sep !== undefined
        ? { type: "BertProcessing", cls: ["[CLS]", cls], sep: ["[SEP]", sep] }
        : null,
    decoder: sentencePieceDecoder(file),
    model: { type: "SentencePiece", file, unk_id: file.unkId },
    added_tokens: addedTokens(all, ids, [...specials, tokenName(all["mask_token"]) ?? ""]),
  };
  return { json, config: all };
}

/** T5's sentinels lie behind the model's pieces, the last one first. */
function extraIds(config: JsonObject, size: number): [string, number][] {
  const given = config["extra_ids"];
  const count = isId(given) && given <= 1000 ? given : 100;
  return Array.from({ length: count }, (_, i) => [`<extra_id_${i}>`, size + count - 1 - i]);
}

function albertNormalizer(file: SentencePieceModel, config: JsonObject): JsonObject {
  const quotes = ["``", "''"].map((marks) => ({ type: "Replace", pattern: { String: marks }, content: '"' }));
  const accents = config["keep_accents"] === true ? [] : [{ type: "NFKD" }, { type: "StripAccents" }];
  const lower = config["do_lower_case"] === false ? [] : [{ type: "Lowercase" }];
  return { type: "Sequence", normalizers: [...quotes, ...accents, ...lower, file.normalizer] };
}

/** More spaces than a text begins or ends with. */
const ALL = 2 ** 20;

/**
 * Pieces to text: bytes put together, and the space that was put before the text taken away; all spaces there, where the normaliser
 * takes out those that say nothing. `trimEnd` takes them from the end too.
 */
export function sentencePieceDecoder({ byteFallback, normalizer }: SentencePieceModel, trimEnd = false): JsonObject {
  const steps: JsonObject[] = [{ type: "Replace", pattern: { String: "▁" }, content: " " }];
  if (byteFallback) steps.push({ type: "ByteFallback" });
  const prefixed = normalizer["add_dummy_prefix"] !== false ? 1 : 0;
  const start = normalizer["remove_extra_whitespaces"] !== false ? ALL : prefixed;
  steps.push({ type: "Fuse" }, { type: "Strip", content: " ", start, stop: trimEnd ? ALL : 0 });
  return { type: "Sequence", decoders: steps };
}

/**
 * Marian's two tokenizers: the pieces of `source.spm` and `target.spm` have their ids in the one `vocab.json`, or those of the
 * latter in `target_vocab.json` where the settings say `separate_vocabs`. A language may be named at the start of a text (`>>fr<<`). `undefined` where there is no `source.spm`.
 */
export async function openMarianFiles(
  settings: TokenizerSettings,
): Promise<{ source: TokenizerJson; target: TokenizerJson } | undefined> {
  const { source, options } = settings;
  const from = await readModelFile(settings, "source.spm");
  if (!from) return undefined;
  const to = await readModelFile(settings, "target.spm");
  const ids = await readVocab(source, "vocab.json", options);
  if (!to || !ids) {
    throw badFile(
      "source.spm comes with target.spm and vocab.json",
      `no ${to ? "vocab.json" : "target.spm"} in ${source.description}`,
    );
  }
  const targetIds =
    settings.config["separate_vocabs"] === true ? await readVocab(source, "target_vocab.json", options) : ids;
  if (!targetIds) throw badFile("separate_vocabs comes with target_vocab.json", `none in ${source.description}`);
  return { source: marianJson(from, ids, settings.config), target: marianJson(to, targetIds, settings.config) };
}

/** Ids by piece; `undefined` where there is no such file. */
async function readVocab(
  source: Source,
  name: string,
  options: ReadOptions,
): Promise<ReadonlyMap<string, number> | undefined> {
  const vocab = await readJsonObject(source, name, { ...options, maxBytes: MAX_MODEL_BYTES });
  if (!vocab) return undefined;
  const ids = new Map<string, number>();
  for (const [piece, id] of Object.entries(vocab)) {
    if (!isId(id)) throw badFile(`the id of ${describe(piece)} in ${name} must be a whole number`, describe(id));
    ids.set(piece, id);
  }
  return ids;
}

function marianJson(file: SentencePieceModel, ids: ReadonlyMap<string, number>, given: JsonObject): TokenizerJson {
  const config: JsonObject = { unk_token: "<unk>", eos_token: "</s>", pad_token: "<pad>", ...given };
  const unk = ids.get(tokenName(config["unk_token"]) ?? "");
  const eos = ids.get(tokenName(config["eos_token"]) ?? "");
  if (unk === undefined || eos === undefined) throw badFile("vocab.json must hold <unk> and </s>", "one without");
  const languages = [...ids]
    .filter(([piece]) => /^>>.+<<$/.test(piece))
    .map(([content, id]) => ({ id, content, special: false, normalized: false, start_only: true }));
  const specials = ["unk_token", "eos_token", "pad_token"].map((key) => tokenName(config[key]) ?? "");
  const eosItem = { SpecialToken: { id: "</s>", type_id: 0 } };
  const first = { Sequence: { id: "A", type_id: 0 } };
  return {
    json: {
      normalizer: file.normalizer,
      pre_tokenizer: null,
      post_processor: {
        type: "TemplateProcessing",
        single: [first, eosItem],
        pair: [first, { Sequence: { id: "B", type_id: 0 } }, eosItem],
        special_tokens: { "</s>": { ids: [eos] } },
      },
      decoder: sentencePieceDecoder(file, true),
      model: { type: "SentencePiece", file, vocab: ids, unk_id: unk },
      added_tokens: [...addedTokens(config, ids, specials), ...languages],
    },
    config,
  };
}
