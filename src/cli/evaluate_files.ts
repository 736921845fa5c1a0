import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { diskFile } from "../train/data/files_node.ts";
import { readLines } from "../train/data/lines.ts";
import { readJsonFile } from "../train/data/readers.ts";
import { note } from "./output.ts";

/**
 * The answer to each question of a file of answers by id, undefined where it has none, which is noted. Throws `BAD_FILE`, and `USAGE` for
 * a file of other questions.
 */
export async function answersById(path: string, ids: readonly string[]): Promise<(string | undefined)[]> {
  const value = await readJsonFile(diskFile(path));
  if (!isObject(value) || !Object.values(value).every((answer) => typeof answer === "string")) {
    throw new HeedError(
      "BAD_FILE",
      `evaluate: ${path} must be an object of answers by question id; got something else.`,
    );
  }
  const given = new Map(Object.entries(value as Record<string, string>));
  const answers = ids.map((id) => given.get(id));
  const missing = answers.filter((answer) => answer === undefined).length;
  if (missing === ids.length) {
    const [own] = given.keys();
    throw new HeedError(
      "USAGE",
      `evaluate: ${path} must have answers by the ids of the questions, such as ${ids[0]}; got ${own ?? "none"}. Name the questions' file.`,
    );
  }
  if (missing > 0) note(`heed: ${missing} of ${ids.length} questions have no answer in ${path}: they count as wrong`);
  return answers;
}

/** A file as it stands, but for a byte order mark. Throws `BAD_FILE` for what is not UTF-8. */
export async function textOf(path: string): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parts: string[] = [];
  for await (const chunk of diskFile(path).open())
    parts.push(decoded(path, () => decoder.decode(chunk, { stream: true })));
  parts.push(decoded(path, () => decoder.decode()));
  return parts.join("");
}

function decoded(path: string, decode: () => string): string {
  try {
    return decode();
  } catch (cause) {
    throw new HeedError("BAD_FILE", `evaluate: ${path} must be UTF-8; got other bytes.`, { cause });
  }
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
