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
  /** Called with the message of each line that is left out. */
  readonly onBad?: (message: string) => void;
  /** So many first lines are passed over unread. Default 0. */
  readonly afterLine?: number;
}

/** A line without its end; `text` is undefined if the line is not UTF-8. */
export interface Line {
  /** From 1. */
  readonly number: number;
  readonly text: string | undefined;
}

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
  const finish = (): Line => {
    const bytes = joined(parts, size);
    parts = [];
    size = 0;
    number++;
    return { number, text: decodeLine(decoder, bytes, number === 1) };
  };
  for await (const chunk of file.open()) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      parts.push(chunk.subarray(from, at));
      size += at - from;
      from = at + 1;
      yield finish();
    }
    parts.push(chunk.subarray(from));
    size += chunk.length - from;
    if (size > MAX_LINE_BYTES) throw badLine(file, number + 1, "must be shorter than 64 MiB", `${size} bytes`);
  }
  if (size > 0) yield finish();
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
    const unmarked = isFirst && text.startsWith("\ufeff") ? text.slice(1) : text;
    return unmarked.endsWith("\r") ? unmarked.slice(0, -1) : unmarked;
  } catch {
    return undefined;
  }
}

/** The error that a bad line is reported with. */
export function badLine(file: DataFile, line: number, rule: string, got: string): HeedError {
  const message = `data: ${file.name} line ${line}: ${rule}; got ${got}. Mend the line, or leave bad lines out with --skip-bad.`;
  return new HeedError("BAD_FILE", message);
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
      if (text === undefined) throw new Misfit("must be UTF-8", "other bytes");
      const example = parse(text, number);
      if (example !== undefined) yield example;
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      const bad = badLine(file, number, error.rule, error.got);
      if (!options.skipBad) throw bad;
      options.onBad?.(bad.message);
    }
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
