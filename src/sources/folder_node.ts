import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { HeedError, throwIfAborted } from "../core/errors.ts";
import {
  checkFileName,
  checkRange,
  collect,
  lengthError,
  type ReadOptions,
  readTextOf,
  type Source,
  type SourceFile,
} from "../core/source.ts";

const CHUNK_BYTES = 2 ** 20;

/** A file on disk as a {@link SourceFile}; a handle is open only while a stream runs. */
export class DiskFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #path: string;

  constructor(path: string, name: string, sizeBytes: number) {
    this.#path = path;
    this.name = name;
    this.sizeBytes = sizeBytes;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    const handle = await openForReading(this.#path, this.name);
    try {
      // One buffer for the whole stream: fresh ones would pile up faster than the collector frees them.
      const buffer = new Uint8Array(Math.min(CHUNK_BYTES, end - start));
      for (let at = start; at < end; ) {
        throwIfAborted(options.signal, `read ${this.name}`);
        const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, end - at), at);
        if (bytesRead === 0) throw lengthError(this.name, end - start, at - start);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }
}

async function openForReading(path: string, name: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    throw new HeedError("BAD_FILE", `read: ${name} must be readable; got ${messageOf(cause)}.`, { cause });
  }
}

/** Opens `path` as a {@link DiskFile}, or returns `undefined` if no regular file is there. */
export async function openDiskFile(path: string, name: string): Promise<DiskFile | undefined> {
  try {
    const info = await stat(path);
    return info.isFile() ? new DiskFile(path, name, info.size) : undefined;
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new HeedError("BAD_FILE", `read: ${name} must be readable; got ${messageOf(cause)}.`, { cause });
  }
}

/**
 * A local folder as a {@link Source} (Node only). Links inside the folder are followed, as the Hub's own cache
 * consists of them; names that leave the folder are refused. Throws `BAD_FILE` when `path` is not a folder.
 */
export async function folderSource(path: string): Promise<Source> {
  const root = resolve(path);
  const info = await stat(root).catch(() => undefined);
  if (!info?.isDirectory()) {
    const hub = /^[\w.-]+\/[\w.-]+$/.test(path) && !path.startsWith(".") ? ` For the Hub write hf:${path}.` : "";
    const mend = info ? " Name the folder that it is in." : ` Check the path.${hub}`;
    throw new HeedError(
      "BAD_FILE",
      `open: ${path} must be a folder with config.json and *.safetensors, or a .gguf file; got ${info ? "a file" : "nothing there"}.${mend}`,
    );
  }
  const source: Source = {
    description: path,
    open: async (name, options) => {
      throwIfAborted(options?.signal, `open ${name}`);
      return openDiskFile(join(root, checkFileName(name)), name);
    },
    list: async () => {
      const entries = await readdir(root, { withFileTypes: true, recursive: true });
      const files = entries.filter((entry) => !entry.isDirectory());
      return files.map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/")).sort();
    },
    readText: (name, options) => readTextOf(source, name, options),
  };
  return source;
}

/** True for the errors that say "there is no such file". */
export function isMissing(error: unknown): boolean {
  const code = errorCodeOf(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

/** The `code` of a system error, such as `ENOSPC`. */
export function errorCodeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
