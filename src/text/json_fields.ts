import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";

/** Fields of tokenizer files, which strangers write: each is checked where it is read. */

/** A string field, or `fallback`; `BAD_FILE` for a value of another type. */
export function stringField(config: JsonObject, name: string, fallback?: string): string {
  const value = config[name] ?? fallback;
  if (typeof value !== "string") throw badFile(`${name} of ${kindOf(config)} must be a string`, describe(value));
  return value;
}

/** A list field of objects; absent is empty. */
export function objectsField(config: JsonObject, name: string): JsonObject[] {
  const value = config[name] ?? [];
  if (!Array.isArray(value) || !value.every(isObject)) {
    throw badFile(`${name} of ${kindOf(config)} must be a list of objects`, describe(value));
  }
  return value;
}

/** A field that is true, or else false; `fallback` where it is absent. */
export function flagField(config: JsonObject, name: string, fallback = false): boolean {
  const value = config[name] ?? fallback;
  if (typeof value !== "boolean") throw badFile(`${name} of ${kindOf(config)} must be true or false`, describe(value));
  return value;
}

/** An id, as the GPU holds it: u32. */
export function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32;
}

/** A value for a message, cut short. */
export function describe(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80);
}

/** `BAD_FILE` in the house form. */
export function badFile(rule: string, got: string, cause?: unknown): HeedError {
  return new HeedError("BAD_FILE", `tokenizer: ${rule}; got ${got}. Check that the file is complete.`, { cause });
}

/** `UNSUPPORTED` for a part of a tokenizer that is of another kind than those that are known. */
export function unsupportedPart(part: string, type: unknown, known: readonly string[]): HeedError {
  const rule = `tokenizer: the ${part} must be one of ${known.join(", ")}`;
  return new HeedError("UNSUPPORTED", `${rule}; got ${describe(type)}. Give token ids, or use another tokenizer.`);
}

function kindOf(config: JsonObject): string {
  return typeof config["type"] === "string" ? config["type"] : "the tokenizer";
}
