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

/** What {@link filesSource} accepts: picked or dropped files, files by name, or a directory handle. */
export type FilesInput = Iterable<File> | ReadonlyMap<string, Blob> | FileSystemDirectoryHandle;

/** A `Blob` or `File` as a {@link SourceFile}: only the ranges asked for are read. */
export class BlobFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #blob: Blob;

  constructor(blob: Blob, name: string) {
    this.#blob = blob;
    this.name = name;
    this.sizeBytes = blob.size;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    // Safari's streams are not async iterable, so the reader is used by hand.
    const reader = this.#blob.slice(start, end).stream().getReader();
    let at = start;
    try {
      while (at < end) {
        throwIfAborted(options.signal, `read ${this.name}`);
        const { done, value } = await this.#guard(reader.read());
        if (done) throw lengthError(this.name, end - start, at - start);
        at += value.length;
        yield value;
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }

  /** A picked file that changed on disk rejects with a bare DOMException. */
  async #guard<T>(reading: Promise<T>): Promise<T> {
    try {
      return await reading;
    } catch (cause) {
      const rule = `read: ${this.name} must stay as it was when it was chosen`;
      throw new HeedError("BAD_FILE", `${rule}; got ${String(cause)}. Choose it again.`, { cause });
    }
  }
}

/**
 * Files that a person picked or dropped, as a {@link Source}. Of `File`s with a relative path (a dropped folder) the
 * common leading folder is left out. Throws `BAD_FILE` when two files have one name.
 */
export function filesSource(input: FilesInput): Source {
  return isDirectoryHandle(input) ? directorySource(input) : blobSource(byName(input));
}

function isDirectoryHandle(input: FilesInput): input is FileSystemDirectoryHandle {
  return "kind" in input && input.kind === "directory";
}

function byName(input: Iterable<File> | ReadonlyMap<string, Blob>): ReadonlyMap<string, Blob> {
  if (input instanceof Map) return input;
  const files = [...(input as Iterable<File>)];
  const paths = files.map((file) => (file.webkitRelativePath || file.name).split("/"));
  const root = paths[0]?.[0];
  const nested = paths.length > 0 && paths.every((path) => path.length > 1 && path[0] === root);
  const blobs = new Map<string, Blob>();
  for (const [i, file] of files.entries()) {
    const name = (paths[i] ?? []).slice(nested ? 1 : 0).join("/");
    if (blobs.has(name)) {
      throw new HeedError("BAD_FILE", `open: files must have different names; got ${name} twice. Choose one model.`);
    }
    blobs.set(name, file);
  }
  return blobs;
}

function blobSource(blobs: ReadonlyMap<string, Blob>): Source {
  const [only] = blobs.size === 1 ? blobs.keys() : [];
  const source: Source = {
    ...(only?.endsWith(".gguf") && { only }),
    description: `${blobs.size} chosen file${blobs.size === 1 ? "" : "s"}`,
    open: async (name, options) => {
      throwIfAborted(options?.signal, `open ${name}`);
      const blob = blobs.get(checkFileName(name));
      return blob && new BlobFile(blob, name);
    },
    list: async () => [...blobs.keys()].sort(),
    readText: (name, options) => readTextOf(source, name, options),
  };
  return source;
}

function directorySource(root: FileSystemDirectoryHandle): Source {
  const source: Source = {
    description: `folder ${root.name}`,
    open: async (name, options) => {
      throwIfAborted(options?.signal, `open ${name}`);
      const parts = checkFileName(name).split("/");
      const last = parts.pop() ?? "";
      try {
        let folder = root;
        for (const part of parts) folder = await folder.getDirectoryHandle(part);
        return new BlobFile(await (await folder.getFileHandle(last)).getFile(), name);
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw new HeedError("BAD_FILE", `open: ${name} must be readable; got ${String(error)}.`, { cause: error });
      }
    },
    list: () => listDirectory(root, ""),
    readText: (name, options) => readTextOf(source, name, options),
  };
  return source;
}

async function listDirectory(folder: FileSystemDirectoryHandle, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === "file") names.push(prefix + name);
    else names.push(...(await listDirectory(handle as FileSystemDirectoryHandle, `${prefix}${name}/`)));
  }
  return names.sort();
}

/** True for the DOM errors that say "there is no such file". */
export function isNotFound(error: unknown): boolean {
  return error instanceof Error && (error.name === "NotFoundError" || error.name === "TypeMismatchError");
}
