import { HeedError } from "../../core/errors.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import {
  type BadLineOptions,
  type DataFile,
  Misfit,
  notUtf8,
  readExamples,
  readLines,
  refuseLine,
  SKIP_FLAG,
} from "./lines.ts";

/** Plain text, a line an example; empty lines are none. */
export function readText(file: DataFile, options?: BadLineOptions): AsyncGenerator<string> {
  return readExamples(file, (text) => text, options);
}

/** JSON Lines: an object a line, made into an example by `parse`, which may throw {@link Misfit}. */
export function readJsonl<T>(
  file: DataFile,
  parse: (object: JsonObject, line: number) => T,
  options?: BadLineOptions,
): AsyncGenerator<T> {
  return readExamples(file, (text, line) => parse(parseObject(text), line), options);
}

function parseObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Misfit("must be JSON", text);
  }
  if (!isObject(value)) throw new Misfit("must be a JSON object", text);
  return value;
}

/** How the columns of a TSV file are named. */
export interface TsvOptions extends BadLineOptions {
  /**
   * Names of the columns that are read. A first line that has all of them, in any order and among others, is a header, which says where they are;
   * else a line has these, in their order. By default the first line has the names.
   */
  readonly columns?: readonly string[];
  /** Told of a first line that was taken for a header. */
  readonly onHeader?: ((message: string) => void) | undefined;
}

/**
 * Tab-separated values, without quoting: each line's columns by name. A line must have as many columns as there are names.
 */
export async function* readTsv<T>(
  file: DataFile,
  parse: (columns: Readonly<Record<string, string>>, line: number) => T,
  options: TsvOptions = {},
): AsyncGenerator<T> {
  const { columns, onHeader, afterLine = 0 } = options;
  const first = (await firstLine(file)).split("\t");
  const isHeader = columns?.every((name) => first.includes(name)) ?? true;
  const names = isHeader ? first : (columns ?? []);
  if (isHeader && columns)
    onHeader?.(`data: ${file.name} line 1 names the columns and is no example: ${first.join(", ")}`);
  yield* readExamples(
    file,
    (text, line) => {
      const cells = text.split("\t");
      if (cells.length !== names.length) {
        throw new Misfit(`must have ${names.length} columns (${names.join(", ")})`, `${cells.length}: ${text}`);
      }
      const row: Record<string, string> = {};
      names.forEach((name, i) => {
        row[name] = cells[i] ?? "";
      });
      return parse(row, line);
    },
    { ...options, afterLine: Math.max(afterLine, isHeader ? 1 : 0) },
  );
}

/** Empty where there is none, or where it is not UTF-8, which whoever reads on is told of. */
async function firstLine(file: DataFile): Promise<string> {
  for await (const { text = "" } of readLines(file)) return text;
  return "";
}

/** A text and its translation. */
export interface TextPair {
  readonly source: string;
  readonly target: string;
}

/** Parallel text in one file: source and target of a line, with a tab between. */
export function readPairs(file: DataFile, options?: BadLineOptions): AsyncGenerator<TextPair> {
  return readExamples(
    file,
    (text) => {
      const [source = "", target, ...more] = text.split("\t");
      if (target === undefined || more.length > 0)
        throw new Misfit("must be a source and a target with one tab between", text);
      if (source.trim() === "" || target.trim() === "")
        throw new Misfit("must have text on both sides of the tab", text);
      return { source, target };
    },
    options,
  );
}

/** Texts with the numbers of their lines: a line each with its own end, or of JSON Lines the field "text" with an LF. */
export async function* readTextLines(
  file: DataFile,
  options: BadLineOptions = {},
): AsyncGenerator<{ readonly line: number; readonly text: string }> {
  if (/\.jsonl(\.gz)?$/.test(file.name)) {
    const parse = ({ text }: JsonObject, line: number): { line: number; text: string } => {
      if (typeof text !== "string") throw new Misfit('must have text in "text"', JSON.stringify(text) ?? "none");
      return { line, text: `${text}\n` };
    };
    yield* readJsonl(file, parse, options);
    return;
  }
  for await (const { number: line, text, end } of readLines(file)) {
    if (line <= (options.afterLine ?? 0)) continue;
    if (text !== undefined) yield { line, text: `${text}${end}` };
    else refuseLine(file, line, notUtf8(), options);
  }
}

/** Parallel text in two files, line by line. Throws `BAD_FILE` where one is longer, which `skipBad` doesn't excuse. */
export async function* readParallel(
  source: DataFile,
  target: DataFile,
  options: BadLineOptions = {},
): AsyncGenerator<TextPair> {
  for await (const { pair } of readParallelLines(source, target, options)) yield pair;
}

/** The same with the numbers of their lines. */
export async function* readParallelLines(
  source: DataFile,
  target: DataFile,
  options: BadLineOptions = {},
): AsyncGenerator<{ readonly line: number; readonly pair: TextPair }> {
  const others = readLines(target);
  try {
    for await (const line of readLines(source)) {
      const other = await others.next();
      if (other.done) throw shorter(target, line.number, source);
      if (line.number <= (options.afterLine ?? 0)) continue;
      const [a, b] = [line.text, other.value.text];
      if (a?.trim() && b?.trim()) {
        yield { line: line.number, pair: { source: a, target: b } };
        continue;
      }
      const [file, text] = a?.trim() ? [target, b] : [source, a];
      refuseLine(file, line.number, text === undefined ? notUtf8() : new Misfit("must have text", "none"), options);
    }
    const rest = await others.next();
    if (!rest.done) throw shorter(source, rest.value.number, target);
  } finally {
    await others.return(undefined);
  }
}

/** Two files of which one has no line that the other has; to leave a line out would put all behind it beside others. */
function shorter(file: DataFile, line: number, other: DataFile): HeedError {
  const message = `data: ${file.name} line ${line}: must have as many lines as ${other.name}; got the end. Mend the files, whose lines belong together.`;
  return new HeedError("BAD_FILE", message);
}

/** A question on a text, with the places of its answers. */
export interface QuestionExample {
  readonly id: string;
  /** The article that the text is from, for splits by article. */
  readonly title: string;
  readonly context: string;
  readonly question: string;
  /** Places are in UTF-16 code units, unlike the file's, which counts characters. Empty where there is no answer. */
  readonly answers: readonly { readonly text: string; readonly start: number }[];
}

/**
 * SQuAD's format, versions 1.1 and 2.0: every question of `{data: [{title, paragraphs: [{context, qas}]}]}`. A question that does not
 * fit, or whose answer does not stand where it says, is reported with its article, paragraph and number.
 */
export async function* readSquad(file: DataFile, options: BadLineOptions = {}): AsyncGenerator<QuestionExample> {
  const root = await readJsonFile(file);
  const articles = isObject(root) && Array.isArray(root["data"]) ? (root["data"] as unknown[]) : undefined;
  if (!articles)
    throw new HeedError(
      "BAD_FILE",
      `data: ${file.name} must be in SQuAD's format; got no list "data". Check the file.`,
    );
  let count = 0;
  for (const { place, read } of articles.flatMap(questionsOf)) {
    count++;
    try {
      yield read();
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      const message = `data: ${file.name}, ${place}: ${error.message}`;
      const mend = `Mend it, or leave bad questions out with ${options.skipName ?? SKIP_FLAG}.`;
      if (!options.skipBad) throw new HeedError("BAD_FILE", `${message}. ${mend}`);
      options.onBad?.(`${message}; it is left out`, count);
    }
  }
}

/** A question that is yet to be read, or what should hold questions and does not. */
interface PlacedQuestion {
  readonly place: string;
  /** Throws a {@link Misfit}. */
  read(): QuestionExample;
}

function questionsOf(article: unknown, a: number): PlacedQuestion[] {
  const { title, paragraphs } = isObject(article) ? article : {};
  const inArticle = `article ${a + 1}`;
  if (!Array.isArray(paragraphs)) return [misplaced(inArticle, "must have a list of paragraphs", paragraphs)];
  return paragraphs.flatMap((paragraph: unknown, p) => {
    const { context, qas } = isObject(paragraph) ? paragraph : {};
    const inParagraph = `${inArticle}, paragraph ${p + 1}`;
    if (!Array.isArray(qas)) return [misplaced(inParagraph, "must have a list of questions (qas)", qas)];
    return qas.map((qa: unknown, q) => ({
      place: `${inParagraph}, question ${q + 1}`,
      read: () => questionOf(qa, { title: String(title ?? a), context }),
    }));
  });
}

function misplaced(place: string, rule: string, got: unknown): PlacedQuestion {
  const read = (): never => {
    throw new Misfit(rule, JSON.stringify(got)?.slice(0, 80) ?? "none");
  };
  return { place, read };
}

/** A file that is one JSON value, in UTF-8 with or without a byte order mark. Throws `BAD_FILE`. */
export async function readJsonFile(file: DataFile): Promise<unknown> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  try {
    for await (const chunk of file.open()) text += decoder.decode(chunk, { stream: true });
    return JSON.parse(text + decoder.decode());
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new HeedError("BAD_FILE", `data: ${file.name} must be JSON in UTF-8; got ${got}.`, { cause });
  }
}

function questionOf(
  qa: unknown,
  { title, context }: { readonly title: string; readonly context: unknown },
): QuestionExample {
  if (typeof context !== "string") throw new Misfit("a paragraph must have a context", typeof context);
  if (!isObject(qa) || typeof qa["question"] !== "string")
    throw new Misfit("a question must be text", JSON.stringify(qa) ?? "none");
  const answers = qa["is_impossible"] === true ? [] : qa["answers"];
  if (!Array.isArray(answers)) throw new Misfit("answers must be a list", JSON.stringify(answers) ?? "none");
  return {
    id: String(qa["id"] ?? ""),
    title,
    context,
    question: qa["question"],
    answers: answers.map((answer: unknown) => answerOf(answer, context)),
  };
}

function answerOf(answer: unknown, context: string): { text: string; start: number } {
  const { text, answer_start: place } = isObject(answer) ? answer : {};
  if (typeof text !== "string" || typeof place !== "number") {
    throw new Misfit("an answer must have text and answer_start", JSON.stringify(answer) ?? "none");
  }
  const start = codeUnits(context, place);
  if (!context.startsWith(text, start))
    throw new Misfit(`the answer "${text}" must stand at ${place}`, context.slice(start, start + 40));
  return { text, start };
}

/** The place of a character in UTF-16 code units. */
function codeUnits(text: string, characters: number): number {
  let at = 0;
  for (let i = 0; i < characters && at < text.length; i++) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return at;
}
