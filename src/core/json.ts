import { HeedError } from "./errors.ts";
import type { ReadOptions, Source } from "./source.ts";
import { mistakenText } from "./text_kinds.ts";

/** What `JSON.parse` gives for an object. */
export type JsonObject = Record<string, unknown>;

const MAX_JSON_BYTES = 4 * 2 ** 20;

/**
 * A JSON file that must hold an object, or `undefined` where there is no such file. Throws `BAD_FILE` for more than
 * `maxBytes` bytes (4 MiB unless given) and for anything but a JSON object.
 */
export async function readJsonObject(
  source: Source,
  name: string,
  options: ReadOptions & { maxBytes?: number } = {},
): Promise<JsonObject | undefined> {
  const text = await source.readText(name, { maxBytes: MAX_JSON_BYTES, ...options });
  if (text === undefined) return undefined;
  const fail = (got: string, cause?: unknown, mend = "Download or write it again.") =>
    new HeedError("BAD_FILE", `read: ${name} in ${source.description} must be a JSON object; got ${got}. ${mend}`, {
      cause,
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const kind = mistakenText(text);
    throw kind ? fail(kind.what, cause, kind.mend) : fail(String(cause).slice(0, 200), cause);
  }
  if (!isObject(value)) throw fail(Array.isArray(value) ? "an array" : value === null ? "null" : `a ${typeof value}`);
  return value;
}

/** True for what JSON calls an object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
