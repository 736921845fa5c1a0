import type { JsonObject } from "../core/json.ts";
import { byteLevelText } from "./byte_level.ts";
import { badFile, describe, flagField, objectsField, stringField, unsupportedPart } from "./json_fields.ts";
import { compilePattern } from "./patterns.ts";

/** Splits a text into the words that the model sees one by one; `first` where it is the beginning of what was given. */
export type PreTokenizer = (text: string, first: boolean) => string[];

type Behavior = "Removed" | "Isolated" | "MergedWithPrevious" | "MergedWithNext" | "Contiguous";

const KNOWN = [
  ..."BertPreTokenizer ByteLevel CharDelimiterSplit Digits Metaspace Punctuation Sequence Split".split(" "),
  ..."Whitespace WhitespaceSplit".split(" "),
];

// Unicode's properties, not JavaScript's \s and \w, which take U+FEFF for a space and know ASCII letters alone.
const SPACE = /\p{White_Space}/gu;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;
const NUMERIC = /\p{N}/gu;
const WORDS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;
/** GPT-2's words (Radford et al., encoder.py). */
const BYTE_LEVEL =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * The `pre_tokenizer` of a tokenizer.json, as the Hub's `tokenizers` run it; null leaves the text whole.
 * Throws `BAD_FILE`, and `UNSUPPORTED` for a kind that is not known.
 */
export function createPreTokenizer(config: JsonObject | null): PreTokenizer {
  switch (config?.["type"]) {
    case undefined:
      return (text) => [text];
    case "Sequence": {
      const all = objectsField(config as JsonObject, "pretokenizers").map(createPreTokenizer);
      return (text, first) =>
        all.reduce((words, split) => words.flatMap((word, i) => split(word, first && i === 0)), [text]);
    }
    case "BertPreTokenizer":
      return (text) => splitBy(text, SPACE, "Removed").flatMap((word) => splitBy(word, PUNCTUATION, "Isolated"));
    case "Whitespace":
      return (text) => text.match(WORDS) ?? [];
    case "WhitespaceSplit":
      return (text) => splitBy(text, SPACE, "Removed");
    default:
      return createConfigured(config as JsonObject);
  }
}

function createConfigured(config: JsonObject): PreTokenizer {
  switch (config["type"]) {
    case "ByteLevel":
      return byteLevel(config);
    case "Metaspace":
      return metaspace(config);
    case "Digits": {
      const behavior = flagField(config, "individual_digits") ? "Isolated" : "Contiguous";
      return (text) => splitBy(text, NUMERIC, behavior);
    }
    case "Punctuation": {
      const behavior = behaviorOf(config, "Isolated");
      return (text) => splitBy(text, PUNCTUATION, behavior);
    }
    case "CharDelimiterSplit": {
      const delimiter = stringField(config, "delimiter");
      return (text) => text.split(delimiter).filter((word) => word !== "");
    }
    case "Split": {
      const pattern = compilePattern(config);
      const behavior = behaviorOf(config);
      const invert = flagField(config, "invert");
      return (text) => splitBy(text, pattern, behavior, invert);
    }
    default:
      throw unsupportedPart("pre_tokenizer", config["type"], KNOWN);
  }
}

function byteLevel(config: JsonObject): PreTokenizer {
  const prefix = flagField(config, "add_prefix_space", true);
  const words = flagField(config, "use_regex", true);
  return (text) => {
    const whole = prefix && !text.startsWith(" ") ? ` ${text}` : text;
    return (words ? splitBy(whole, BYTE_LEVEL, "Isolated") : [whole]).map(byteLevelText);
  };
}

function metaspace(config: JsonObject): PreTokenizer {
  const mark = stringField(config, "replacement", "▁");
  const scheme = config["prepend_scheme"] ?? (config["add_prefix_space"] === false ? "never" : "always");
  const split = flagField(config, "split", true);
  const pattern = new RegExp(`\\u{${mark.codePointAt(0)?.toString(16) ?? "2581"}}`, "gu");
  return (text, first) => {
    const marked = text.replaceAll(" ", mark);
    const prepend = !marked.startsWith(mark) && (scheme === "always" || (scheme === "first" && first));
    const whole = prepend ? mark + marked : marked;
    return split ? splitBy(whole, pattern, "MergedWithNext") : [whole];
  };
}

function behaviorOf(config: JsonObject, fallback?: Behavior): Behavior {
  const value = config["behavior"] ?? fallback;
  const known: readonly unknown[] = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"];
  if (!known.includes(value)) throw badFile(`behavior must be one of ${known.join(", ")}`, describe(value));
  return value as Behavior;
}

/** The parts of a text between and at the matches of a pattern, put together as the behaviour says. */
function splitBy(text: string, pattern: RegExp, behavior: Behavior, invert = false): string[] {
  const parts: { text: string; isMatch: boolean }[] = [];
  const add = (from: number, to: number, isMatch: boolean): void => {
    if (to > from) parts.push({ text: text.slice(from, to), isMatch: isMatch !== invert });
  };
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    add(at, match.index, false);
    at = match.index + match[0].length;
    add(match.index, at, true);
  }
  add(at, text.length, false);
  switch (behavior) {
    case "Removed":
      return parts.filter((part) => !part.isMatch).map((part) => part.text);
    case "Isolated":
      return parts.map((part) => part.text);
    case "Contiguous":
      return joinParts(parts, (before, part) => before.isMatch === part.isMatch);
    case "MergedWithPrevious":
      return joinParts(parts, (before, part) => part.isMatch && !before.isMatch);
    case "MergedWithNext":
      return joinParts(parts, (before, part) => before.isMatch && !part.isMatch);
  }
}

/** Joins a part to the one before it where `joins` says so; the pair's last part then stands for both. */
function joinParts<Part extends { text: string }>(
  parts: readonly Part[],
  joins: (before: Part, part: Part) => boolean,
): string[] {
  const words: string[] = [];
  parts.forEach((part, i) => {
    const before = parts[i - 1];
    if (before && joins(before, part)) words.push((words.pop() ?? "") + part.text);
    else words.push(part.text);
  });
  return words;
}
