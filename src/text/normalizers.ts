import type { JsonObject } from "../core/json.ts";
import { Charsmap, normalizeGraphemes } from "./charsmap.ts";
import { byteLevelText } from "./byte_level.ts";
import { flagField, objectsField, stringField, unsupportedPart } from "./json_fields.ts";
import { compilePattern } from "./patterns.ts";
import { sentencePieceNormalizer } from "./sentencepiece_normalizer.ts";

/** Changes a text before it is split. */
export type Normalizer = (text: string) => string;

const KNOWN = [
  ..."BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace".split(" "),
  ..."SentencePiece Sequence Strip StripAccents".split(" "),
];

/**
 * The `normalizer` of a tokenizer.json, character for character as the Hub's `tokenizers` run it; null changes nothing.
 * Throws `BAD_FILE`, and `UNSUPPORTED` for a kind that is not known.
 */
export function createNormalizer(config: JsonObject | null): Normalizer {
  switch (config?.["type"]) {
    case undefined:
      return (text) => text;
    case "Sequence": {
      const all = objectsField(config as JsonObject, "normalizers").map(createNormalizer);
      return (text) => all.reduce((now, normalize) => normalize(now), text);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = config?.["type"] as string;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      return lowercase;
    case "StripAccents":
      return (text) => text.replace(/\p{M}/gu, "");
    case "Nmt":
      return normalizeNmt;
    case "ByteLevel":
      return byteLevelText;
    case "BertNormalizer":
      return bertNormalizer(config as JsonObject);
    case "SentencePiece":
      return sentencePieceNormalizer(config as JsonObject);
    default:
      return createConfigured(config as JsonObject);
  }
}

function createConfigured(config: JsonObject): Normalizer {
  switch (config["type"]) {
    case "Strip":
      return stripper(config);
    case "Prepend": {
      const prefix = stringField(config, "prepend");
      return (text) => (text === "" ? text : prefix + text);
    }
    case "Replace": {
      const pattern = compilePattern(config);
      const content = stringField(config, "content");
      return (text) => text.replace(pattern, () => content);
    }
    case "Precompiled": {
      const encoded = stringField(config, "precompiled_charsmap", "");
      if (encoded === "") return (text) => text;
      const charsmap = new Charsmap(Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0)));
      return (text) => normalizeGraphemes(charsmap, text);
    }
    default:
      throw unsupportedPart("normalizer", config["type"], KNOWN);
  }
}

/** Character by character, so that a sigma at the end of a word becomes the one that is at its middle. */
function lowercase(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII needs no such care
  if (/^[\x00-\x7f]*$/.test(text)) return text.toLowerCase();
  let out = "";
  for (const character of text) out += character.toLowerCase();
  return out;
}

function stripper(config: JsonObject): Normalizer {
  const [left, right] = [flagField(config, "strip_left", true), flagField(config, "strip_right", true)];
  return (text) => {
    const start = left ? text.replace(/^\p{White_Space}+/u, "") : text;
    return right ? start.replace(/\p{White_Space}+$/u, "") : start;
  };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const NMT_REMOVED = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** Control characters are left out, and the many kinds of space become one (as SentencePiece's `nmt` rules do). */
function normalizeNmt(text: string): string {
  return text.replace(NMT_REMOVED, "").replace(NMT_SPACES, " ");
}

/** Ranges of characters that BERT takes for words of their own, as the Hub's `tokenizers` have them. */
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bertNormalizer(config: JsonObject): Normalizer {
  const lower = flagField(config, "lowercase", true);
  const strip = config["strip_accents"] === undefined || config["strip_accents"] === null;
  const steps: Normalizer[] = [];
  if (flagField(config, "clean_text", true)) steps.push(cleanText);
  if (flagField(config, "handle_chinese_chars", true)) steps.push((text) => text.replace(CHINESE, " $& "));
  if (strip ? lower : flagField(config, "strip_accents")) {
    steps.push((text) => text.normalize("NFD").replace(/\p{Mn}/gu, ""));
  }
  if (lower) steps.push(lowercase);
  return (text) => steps.reduce((now, step) => step(now), text);
}

function cleanText(text: string): string {
  // Controls, U+0000 among them, but not code points that no version of Unicode had yet assigned: other libraries keep those.
  return text.replace(/(?![\t\n\r])[\ufffd\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "").replace(/\p{White_Space}/gu, " ");
}
