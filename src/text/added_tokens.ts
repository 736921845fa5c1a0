import type { JsonObject } from "../core/json.ts";
import { badFile, describe, isId } from "./json_fields.ts";
import { escapePattern } from "./patterns.ts";

/** A token beside the model's own pieces: it is found in a text before the model sees it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Control tokens such as `</s>`. */
  readonly special: boolean;
  /** Looked for in the normalised text instead of the text as given. */
  readonly normalized: boolean;
  /** Found only where no word character is beside it. */
  readonly singleWord: boolean;
  /** Takes the spaces before, or after it. */
  readonly leftStrip: boolean;
  readonly rightStrip: boolean;
  /** Found at the start of a text alone (Marian's languages). */
  readonly startOnly: boolean;
}

/** A run of text, or a token that was found in it. */
export type Section = { readonly text: string } | { readonly token: AddedToken };

/** The `added_tokens` of a tokenizer.json. Throws `BAD_FILE`. */
export function readAddedTokens(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw badFile("added_tokens must be a list", describe(value));
  return value.map((entry: unknown) => {
    const token = entry as JsonObject | null;
    const { id, content } = token ?? {};
    if (!isId(id) || typeof content !== "string") {
      throw badFile("each added token must have an integer id and a content", describe(entry));
    }
    const special = token?.["special"] === true;
    const normalized = token?.["normalized"];
    return {
      id,
      content,
      special,
      normalized: typeof normalized === "boolean" ? normalized : !special,
      singleWord: token?.["single_word"] === true,
      leftStrip: token?.["lstrip"] === true,
      rightStrip: token?.["rstrip"] === true,
      startOnly: token?.["start_only"] === true,
    };
  });
}

const ENDS_WITH_WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]$/u;
const STARTS_WITH_WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;

/** Splits texts at a set of added tokens, the longest that fits at each place, as the Hub's `tokenizers` do. */
export function createSplitter(tokens: readonly AddedToken[]): (text: string) => Section[] {
  const byContent = new Map(tokens.filter(({ content }) => content !== "").map((token) => [token.content, token]));
  if (byContent.size === 0) return (text) => (text === "" ? [] : [{ text }]);
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(longestFirst.map(escapePattern).join("|"), "gu");
  return (text) => {
    const sections: Section[] = [];
    let at = 0;
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0]) as AddedToken;
      let [start, end] = [match.index, match.index + match[0].length];
      if (start < at || (token.startOnly && start > 0)) continue;
      if (token.singleWord && (ENDS_WITH_WORD.test(text.slice(0, start)) || STARTS_WITH_WORD.test(text.slice(end)))) {
        continue;
      }
      if (token.leftStrip) start -= (/\p{White_Space}*$/u.exec(text.slice(at, start))?.[0] ?? "").length;
      if (token.rightStrip) end += (/^\p{White_Space}*/u.exec(text.slice(end))?.[0] ?? "").length;
      if (start > at) sections.push({ text: text.slice(at, start) });
      sections.push({ token });
      at = end;
    }
    if (at < text.length) sections.push({ text: text.slice(at) });
    return sections;
  };
}
