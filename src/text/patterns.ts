import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { isObject, type JsonObject } from "../core/json.ts";
import { badFile, describe, stringField } from "./json_fields.ts";

/**
 * The `pattern` of a normaliser or pre-tokenizer, `{String}` or `{Regex}`, as a global expression. The regular expressions of
 * tokenizer.json are Oniguruma's; `@huggingface/tokenizers` rewrites them for JavaScript. Throws `BAD_FILE`.
 */
export function compilePattern(config: JsonObject): RegExp {
  const pattern = config["pattern"];
  if (typeof pattern === "string") return literal(pattern);
  if (!isObject(pattern)) throw badFile("a pattern must be an object", describe(pattern));
  if (pattern["String"] !== undefined) return literal(stringField(pattern, "String"));
  return compileRegex(stringField(pattern, "Regex"));
}

function literal(text: string): RegExp {
  if (text === "") throw badFile("a pattern must not be empty", '""');
  return new RegExp(escapePattern(text), "gu");
}

/** An Oniguruma expression as JavaScript's. */
export function compileRegex(regex: string): RegExp {
  const pre = { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
  const json = { normalizer: null, pre_tokenizer: pre, post_processor: null, decoder: null, added_tokens: [] };
  const model = { type: "WordPiece", vocab: {}, unk_token: "" };
  try {
    const split: unknown = new HubTokenizer({ ...json, model }, {}).pre_tokenizer;
    const compiled: unknown = (split as { pattern?: unknown } | null)?.pattern;
    if (compiled instanceof RegExp) return compiled;
  } catch (cause) {
    throw badFile("a regular expression must be one that can be read", `${describe(regex)}: ${String(cause)}`, cause);
  }
  throw badFile("a regular expression must be one that can be read", describe(regex));
}

/** The text as an expression that matches it alone. */
export function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
