import { HeedError, throwIfAborted } from "./errors.ts";

/** What every reading call accepts. */
export interface ReadOptions {
  /** Stops the call with `ABORTED`. */
  signal?: AbortSignal;
}

/** Tells how much of one file has arrived; `loadedBytes` falls only when a damaged download begins anew. */
export interface DownloadProgress {
  file: string;
  loadedBytes: number;
  totalBytes: number;
}

/** One file of a checkpoint, read by byte ranges. Holds nothing that needs closing. */
export interface SourceFile {
  /** Path inside its source, for messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /**
   * The bytes `[start, end)` in order, in chunks of any size. A chunk is valid until the next one is asked for:
   * whoever keeps it copies it. Throws `BAD_FILE` when the file ends before `end`.
   */
  stream(start: number, end: number, options?: ReadOptions): AsyncIterable<Uint8Array>;
  /** The bytes `[start, end)` in a buffer of the caller's own. */
  read(start: number, end: number, options?: ReadOptions): Promise<Uint8Array>;
}

/** A place that holds the files of one checkpoint: a Hub repository, a URL, a folder, dropped files. */
export interface Source {
  /** How messages call this place, for example `hf:owner/name@main`. */
  readonly description: string;
  /** The one file that was asked for, where it is the whole model (GGUF). */
  readonly only?: string;
  /** The file of that name, or `undefined` where there is none. Throws `BAD_FILE` for a name that leaves the source. */
  open(name: string, options?: ReadOptions): Promise<SourceFile | undefined>;
  /** The names of all files, where the place can tell. */
  list?(options?: ReadOptions): Promise<string[]>;
  /** A whole UTF-8 file as text (`maxBytes` defaults to 64 MiB), or `undefined` where there is none. */
  readText(name: string, options?: ReadOptions & { maxBytes?: number }): Promise<string | undefined>;
}

const DEFAULT_TEXT_BYTES = 64 * 2 ** 20;
const MAX_NAME_LENGTH = 1024;

/**
 * Returns `name` if it stays inside its source: a relative path with `/` between its parts, without `.`, `..`, empty
 * parts, backslashes, colons or control characters. Names come from shard indexes, which strangers write.
 * Throws `BAD_FILE`.
 */
export function checkFileName(name: string): string {
  const parts = name.split("/");
  const bad =
    name.length > MAX_NAME_LENGTH ||
    parts.some((part) => part === "" || part === "." || part === "..") ||
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses
    /[\\:\u0000-\u001f\u007f]/.test(name);
  if (!bad) return name;
  const shown = JSON.stringify(name.slice(0, 100));
  throw new HeedError(
    "BAD_FILE",
    `open: a file name must be a relative path inside its source; got ${shown}. Do not load this checkpoint, or mend its index.`,
  );
}

/** Throws `INTERNAL` unless `0 ≤ start ≤ end ≤ sizeBytes`. */
export function checkRange(file: { name: string; sizeBytes: number }, start: number, end: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (whole && start >= 0 && start <= end && end <= file.sizeBytes) return;
  throw new HeedError("INTERNAL", `read: ${file.name} has ${file.sizeBytes} bytes; asked for [${start}, ${end})`);
}

/** Gathers a stream of exactly `sizeBytes` bytes in one buffer; `BAD_FILE` when it is shorter or longer. */
export async function collect(chunks: AsyncIterable<Uint8Array>, sizeBytes: number, name: string): Promise<Uint8Array> {
  const out = new Uint8Array(sizeBytes);
  let at = 0;
  for await (const chunk of chunks) {
    if (at + chunk.length > sizeBytes) throw lengthError(name, sizeBytes, at + chunk.length);
    out.set(chunk, at);
    at += chunk.length;
  }
  if (at !== sizeBytes) throw lengthError(name, sizeBytes, at);
  return out;
}

/** `BAD_FILE`: a stream that ended at `gotBytes` instead of `needBytes`. */
export function lengthError(name: string, needBytes: number, gotBytes: number): HeedError {
  return new HeedError(
    "BAD_FILE",
    `read: ${name} must give ${needBytes} bytes here; got ${gotBytes}. The file was cut short or changed while it was read.`,
  );
}

/** {@link Source.readText} for a source that can `open`. */
export async function readTextOf(
  source: Pick<Source, "open" | "description">,
  name: string,
  options: ReadOptions & { maxBytes?: number } = {},
): Promise<string | undefined> {
  const { signal, maxBytes = DEFAULT_TEXT_BYTES } = options;
  throwIfAborted(signal, `read ${name}`);
  const file = await source.open(name, { signal });
  if (!file) return undefined;
  if (file.sizeBytes > maxBytes) {
    throw new HeedError(
      "BAD_FILE",
      `read: ${name} in ${source.description} may have at most ${maxBytes} bytes; got ${file.sizeBytes}.`,
    );
  }
  const bytes = await file.read(0, file.sizeBytes, { signal });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new HeedError("BAD_FILE", `read: ${name} in ${source.description} must be UTF-8 text; got other bytes.`, {
      cause,
    });
  }
}
