import { HeedError } from "../../core/errors.ts";

/** A file to read from its beginning, as often as asked: one on disk, or a `File` of the page by {@link blobFile}. */
export interface DataFile {
  /** For messages. */
  readonly name: string;
  open(): AsyncIterable<Uint8Array>;
}

/** What readers do with a line that is no example. */
export interface BadLineOptions {
  /** Leave it out instead of throwing. Default false. */
  readonly skipBad?: boolean;
  /** Called with the message of each line that is left out, and its number. */
  readonly onBad?: (message: string, line: number) => void;
  /** What asks for that, in the error of a line that is not left out. Default `--skip-bad`. */
  readonly skipName?: string;
  /** So many first lines are passed over unread. Default 0. */
  readonly afterLine?: number;
}

/** A line without its end; `text` is undefined if the line is not UTF-8. */
export interface Line {
  /** From 1. */
  readonly number: number;
  readonly text: string | undefined;
  /** LF, CR LF, or of a last line what it has of them. */
  readonly end: string;
}

/** The flag of commands that leaves bad lines out. */
export const SKIP_FLAG = "--skip-bad";
/** Lines that are told of with what is wrong, of those that are left out. */
const MOST_REASONS = 5;
/** Lines whose numbers are told. */
const MOST_NUMBERS = 100;
/** A line this long is a file of another kind. */
const MAX_LINE_BYTES = 64 * 2 ** 20;
const NEWLINE = 0x0a;

/** A blob or `File` as a data file; gzip is unpacked if its name ends in .gz. */
export function blobFile(blob: Blob, name: string): DataFile {
  return {
    name,
    open: () => {
      const stream = blob.stream() as ReadableStream<Uint8Array<ArrayBuffer>>;
      return chunksOf(name.endsWith(".gz") ? stream.pipeThrough(new DecompressionStream("gzip")) : stream);
    },
  };
}

/** Text in memory as a data file. */
export function textFile(text: string, name: string): DataFile {
  return blobFile(new Blob([text]), name);
}

async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** The lines of a file, streamed, their ends (LF or CR LF) and a byte order mark removed. Throws `BAD_FILE` for a line above 64 MiB. */
export async function* readLines(file: DataFile): AsyncGenerator<Line> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let parts: Uint8Array[] = [];
  let size = 0;
  let number = 0;
  const finish = (newline: string): Line => {
    const bytes = joined(parts, size);
    parts = [];
    size = 0;
    number++;
    const text = decodeLine(decoder, bytes, number === 1);
    const hasReturn = text?.endsWith("\r") ?? false;
    return { number, text: hasReturn ? text?.slice(0, -1) : text, end: `${hasReturn ? "\r" : ""}${newline}` };
  };
  for await (const chunk of file.open()) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      parts.push(chunk.subarray(from, at));
      size += at - from;
      from = at + 1;
      yield finish("\n");
    }
    parts.push(chunk.subarray(from));
    size += chunk.length - from;
    if (size > MAX_LINE_BYTES) {
      const message = `data: ${file.name} line ${number + 1}: must be shorter than 64 MiB; got ${size} bytes. Break it into lines.`;
      throw new HeedError("BAD_FILE", message);
    }
  }
  if (size > 0) yield finish("");
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  if (parts.length === 1 && parts[0]) return parts[0];
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function decodeLine(decoder: TextDecoder, bytes: Uint8Array, isFirst: boolean): string | undefined {
  try {
    const text = decoder.decode(bytes);
    return isFirst && text.startsWith("\ufeff") ? text.slice(1) : text;
  } catch {
    return undefined;
  }
}

/** The error that a bad line is reported with; `skipName` is what asks to leave such lines out. */
export function badLine(
  file: DataFile,
  line: number,
  { rule, got }: Pick<Misfit, "rule" | "got">,
  skipName = SKIP_FLAG,
): HeedError {
  const message = `data: ${file.name} line ${line}: ${rule}; got ${got}. Mend the line, or leave bad lines out with ${skipName}.`;
  return new HeedError("BAD_FILE", message);
}

/** Throws the error of a bad line, or tells of it where such lines are left out. */
export function refuseLine(file: DataFile, line: number, fault: Misfit, options: BadLineOptions): void {
  if (!options.skipBad) throw badLine(file, line, fault, options.skipName);
  options.onBad?.(`data: ${file.name} line ${line} is left out: ${fault.rule}; got ${fault.got}`, line);
}

/**
 * Makes an example of each line that is not empty. `parse` throws a {@link Misfit} for a line that is none: that is then reported with
 * file and line, or left out with `skipBad`.
 */
export async function* readExamples<T>(
  file: DataFile,
  parse: (text: string, line: number) => T | undefined,
  options: BadLineOptions = {},
): AsyncGenerator<T> {
  for await (const { number, text } of readLines(file)) {
    if (text === "" || number <= (options.afterLine ?? 0)) continue;
    try {
      if (text === undefined) throw notUtf8();
      const example = parse(text, number);
      if (example !== undefined) yield example;
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      refuseLine(file, number, error, options);
    }
  }
}

/** What is wrong with a line of other bytes. */
export function notUtf8(): Misfit {
  return new Misfit("must be UTF-8", "other bytes");
}

/**
 * Tells of the lines of a file that are left out, of each once, however often the file is read: of the first few what is wrong, and at the end of
 * the file the numbers of all.
 */
export class SkippedLines {
  readonly #file: DataFile;
  readonly #note: (message: string) => void;
  readonly #kind: string;
  readonly #lines = new Set<number>();
  readonly #told = new Set<string>();

  /** `kind` is what is counted, such as `lines`. */
  constructor(file: DataFile, note: ((message: string) => void) | undefined, kind = "lines") {
    this.#file = file;
    this.#note = note ?? (() => {});
    this.#kind = kind;
  }

  /** For {@link BadLineOptions.onBad}. */
  readonly add = (message: string, line: number): void => {
    if (this.#lines.has(line)) return;
    this.#lines.add(line);
    if (this.#lines.size <= MOST_REASONS) this.tell(message);
  };

  /** Passes on what is to be told once. */
  readonly tell = (message: string): void => {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#note(message);
  };

  /** To be called at the end of the file. */
  end(): void {
    const { size } = this.#lines;
    if (size === 0) return;
    const numbers = [...this.#lines].sort((a, b) => a - b).slice(0, MOST_NUMBERS);
    const more = size > numbers.length ? " and others" : "";
    this.tell(`data: ${size} bad ${this.#kind} of ${this.#file.name} were left out: ${numbers.join(", ")}${more}`);
  }
}

/** Why a line is no example: the rule and what stands there instead. */
export class Misfit extends Error {
  readonly rule: string;
  readonly got: string;

  constructor(rule: string, got: string) {
    super(`${rule}; got ${got}`);
    this.rule = rule;
    this.got = got.length > 120 ? `${got.slice(0, 117)}…` : got;
  }
}
