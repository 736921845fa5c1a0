import type { JsonObject } from "../core/json.ts";
import { Charsmap } from "./charsmap.ts";
import { flagField } from "./json_fields.ts";
import type { Normalizer } from "./normalizers.ts";
import { escapePattern } from "./patterns.ts";

const UTF8 = new TextEncoder();
const TEXT = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * SentencePiece's own normaliser, with the settings of a model file: the longest rule that fits at each place, spaces
 * trimmed and joined, one put before the text, and all written as `▁`. Symbols that the model's makers defined are left alone.
 * Source: sentencepiece/normalizer.cc.
 */
export function sentencePieceNormalizer(config: JsonObject): Normalizer {
  const charsmap = config["charsmap"] instanceof Uint8Array ? new Charsmap(config["charsmap"]) : undefined;
  const symbols = Array.isArray(config["user_defined"]) ? (config["user_defined"] as string[]) : [];
  const removeExtra = flagField(config, "remove_extra_whitespaces", true);
  const prepend = flagField(config, "add_dummy_prefix", true);
  const suffix = flagField(config, "treat_whitespace_as_suffix");
  const space = flagField(config, "escape_whitespaces", true) ? "▁" : " ";

  return (text) => {
    let out = "";
    let afterSpace = removeExtra;
    for (const part of replaced(wellFormed(text), charsmap, symbols)) {
      const kept = afterSpace ? part.replace(/^ +/, "") : part;
      if (kept !== "") {
        out += kept.replaceAll(" ", space);
        afterSpace = removeExtra && kept.endsWith(" ");
      }
    }
    if (removeExtra) while (out.endsWith(space)) out = out.slice(0, -space.length);
    // A text of spaces alone is no text where spaces are removed.
    if (text === "" || (removeExtra && out === "") || !prepend) return out;
    return suffix ? out + space : space + out;
  };
}

/** The text in parts, each what one rule, one symbol or one character gives. */
function* replaced(text: string, charsmap: Charsmap | undefined, symbols: readonly string[]): Generator<string> {
  const longestFirst = [...symbols].sort((a, b) => b.length - a.length);
  const pattern = symbols.length > 0 ? new RegExp(longestFirst.map(escapePattern).join("|"), "gu") : undefined;
  let at = 0;
  for (const match of pattern ? text.matchAll(pattern) : []) {
    yield* replacedRun(text.slice(at, match.index), charsmap);
    yield match[0];
    at = match.index + match[0].length;
  }
  yield* replacedRun(text.slice(at), charsmap);
}

function* replacedRun(text: string, charsmap: Charsmap | undefined): Generator<string> {
  if (!charsmap) {
    yield* text;
    return;
  }
  const bytes = UTF8.encode(text);
  for (let at = 0; at < bytes.length; ) {
    const longest = charsmap.prefixes(bytes, at).at(-1);
    if (longest) {
      yield longest.text;
      at += longest.length;
    } else {
      const length = sequenceBytes(bytes[at] as number);
      yield TEXT.decode(bytes.subarray(at, at + length));
      at += length;
    }
  }
}

function sequenceBytes(first: number): number {
  return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/** Lone surrogates have no UTF-8: they become U+FFFD, as in any text on its way to bytes. */
function wellFormed(text: string): string {
  return /[\ud800-\udfff]/.test(text) ? TEXT.decode(UTF8.encode(text)) : text;
}
