import { readFile } from "node:fs/promises";
import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { diskFile } from "../train/data/files_node.ts";
import { readLines } from "../train/data/lines.ts";

/** Answers by question id. Throws `BAD_FILE`. */
export async function answersById(path: string): Promise<Map<string, string>> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new HeedError(
      "BAD_FILE",
      `evaluate: ${path} must be a file that can be read; got ${String(cause)}. Check the path.`,
      {
        cause,
      },
    );
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new HeedError("BAD_FILE", `evaluate: ${path} must be JSON; got ${String(cause)}.`, { cause });
  }
  if (!isObject(value) || !Object.values(value).every((answer) => typeof answer === "string")) {
    throw new HeedError(
      "BAD_FILE",
      `evaluate: ${path} must be an object of answers by question id; got something else.`,
    );
  }
  return new Map(Object.entries(value as Record<string, string>));
}

/** Lines of a file, empty ones too. Throws `BAD_FILE` for what is not UTF-8. */
export async function linesOf(path: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const { number, text } of readLines(diskFile(path))) {
    if (text === undefined)
      throw new HeedError("BAD_FILE", `evaluate: ${path} line ${number} must be UTF-8; got other bytes.`);
    lines.push(text);
  }
  return lines;
}
