import type { JsonObject } from "../core/json.ts";
import { badFile, describe, isId, objectsField, unsupportedPart } from "./json_fields.ts";

/** Ids around one text or two: an item is the first text, the second, or ids of their own, each with its type id. */
export interface FrameItem {
  readonly part: "first" | "second" | readonly number[];
  readonly typeId: number;
}

/** What is put around one text, and around a pair. */
export interface Frame {
  readonly single: readonly FrameItem[];
  readonly pair: readonly FrameItem[];
}

/** Nothing around a text; a pair's second text follows the first. */
export const BARE_FRAME: Frame = frameOf([], [], [], 1);

/** The frame `before A middle [B after]`, the usual one. */
export function frameOf(
  before: readonly number[],
  after: readonly number[],
  middle: readonly number[],
  type: number,
): Frame {
  const ids = (part: readonly number[], typeId: number): FrameItem[] => (part.length > 0 ? [{ part, typeId }] : []);
  const single: FrameItem[] = [...ids(before, 0), { part: "first", typeId: 0 }, ...ids(after, 0)];
  return { single, pair: [...single, ...ids(middle, type), { part: "second", typeId: type }, ...ids(after, type)] };
}

/**
 * The `post_processor` of a tokenizer.json, as far as it adds tokens. Throws `BAD_FILE`, `UNSUPPORTED`.
 */
export function readFrame(config: JsonObject | null, idOf: (token: string) => number | undefined): Frame {
  switch (config?.["type"]) {
    case undefined:
    case "ByteLevel":
      return BARE_FRAME;
    case "Sequence": {
      const frames = objectsField(config as JsonObject, "processors").map((part) => readFrame(part, idOf));
      return frames.find((frame) => frame !== BARE_FRAME) ?? BARE_FRAME;
    }
    case "BertProcessing":
    case "RobertaProcessing": {
      const [cls, sep] = [namedId(config?.["cls"]), namedId(config?.["sep"])];
      const isBert = config?.["type"] === "BertProcessing";
      return frameOf([cls], [sep], isBert ? [] : [sep], isBert ? 1 : 0);
    }
    case "TemplateProcessing": {
      const ids = templateIds(config as JsonObject, idOf);
      const [single, pair] = [readTemplate(config?.["single"], ids), readTemplate(config?.["pair"], ids)];
      return { single, pair: pair.length > 0 ? pair : [...single, { part: "second", typeId: 1 }] };
    }
    default:
      throw unsupportedPart(
        "post_processor",
        config?.["type"],
        "BertProcessing ByteLevel RobertaProcessing Sequence TemplateProcessing".split(" "),
      );
  }
}

/** The id of `["</s>", 2]`. */
function namedId(value: unknown): number {
  const id: unknown = Array.isArray(value) ? value[1] : undefined;
  if (!isId(id)) throw badFile("the post-processor must give its tokens with their ids", describe(value));
  return id;
}

function templateIds(config: JsonObject, idOf: (token: string) => number | undefined): (token: string) => number[] {
  const known = config["special_tokens"] as Record<string, JsonObject | undefined> | undefined;
  return (token) => {
    const ids = known?.[token]?.["ids"] ?? [idOf(token)];
    if (!Array.isArray(ids) || !ids.every(isId)) {
      throw badFile("the post-processor must name tokens of the vocabulary", describe(token));
    }
    return ids;
  };
}

function readTemplate(value: unknown, idsOf: (token: string) => number[]): FrameItem[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw badFile("a template must be a list", describe(value));
  return (value as Record<string, JsonObject | undefined>[]).map((item) => {
    const sequence = item["Sequence"];
    const special = item["SpecialToken"];
    const typeId = Number(sequence?.["type_id"] ?? special?.["type_id"] ?? 0);
    if (sequence) return { part: sequence["id"] === "B" ? "second" : "first", typeId };
    if (!special) throw badFile("a template's item must be a Sequence or a SpecialToken", describe(item));
    return { part: idsOf(String(special["id"])), typeId };
  });
}
