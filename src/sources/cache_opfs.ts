import { HeedError } from "../core/errors.ts";
import type { BlobWriter, FileCache } from "./cache.ts";
import { BlobFile, isNotFound } from "./files.ts";
import { createSha256 } from "./hash.ts";
import { checkRange, collect, type ReadOptions, type SourceFile } from "../core/source.ts";

/** A file becomes visible in this file system only when it is closed, so a download is kept in pieces of this size. */
const SEGMENT_BYTES = 32 * 2 ** 20;

/**
 * The origin's private file system as a {@link FileCache} (pages and workers). A blob is a run of segments
 * `<key>.0 <key>.1 …` and a `<key>.done` that says they are all there; a download that was cancelled goes on where it stopped, one
 * whose page was closed after its last whole segment. `segmentBytes` and `root` are for tests. Returns `undefined` where the browser has no such file system.
 */
export async function opfsCache(
  options: { root?: FileSystemDirectoryHandle; segmentBytes?: number } = {},
): Promise<FileCache | undefined> {
  const storage = globalThis.navigator?.storage;
  if (!options.root && typeof storage?.getDirectory !== "function") return undefined;
  const folder = await openCacheFolder(options.root);
  if (!folder) return undefined;
  const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
  return {
    description: "the browser's storage for this site",
    openBlob: async (key, name, sizeBytes) => {
      const done = await readText(folder, `${key}.done`);
      if (done === undefined) return undefined;
      const files = done === String(sizeBytes) ? await segmentsOf(folder, key, { sizeBytes, segmentBytes }) : [];
      if (sum(files) === sizeBytes) return new SegmentedFile(files, name, sizeBytes);
      await removeEntry(folder, `${key}.done`);
      return undefined;
    },
    beginBlob: async (key, sizeBytes) => {
      const files = await segmentsOf(folder, key, { sizeBytes, segmentBytes, begun: true });
      return new OpfsWriter({ folder, key, segmentBytes, sizeBytes, written: sum(files) });
    },
    readRecord: (key) => readText(folder, key),
    writeRecord: async (key, text) => writeText(folder, key, text),
    createSha256,
  };
}

/** What the cache takes: bytes of everything in it, and how many of its files are whole. */
export async function opfsUsage(root?: FileSystemDirectoryHandle): Promise<{ bytes: number; files: number }> {
  const folder = await openCacheFolder(root);
  let [bytes, files] = [0, 0];
  if (!folder) return { bytes, files };
  for (const name of await namesIn(folder)) {
    bytes += (await openFile(folder, name))?.size ?? 0;
    if (name.endsWith(".done")) files++;
  }
  return { bytes, files };
}

/** Removes what the cache holds, downloads that were stopped included. A file that another page is writing stays. */
export async function clearOpfs(root?: FileSystemDirectoryHandle): Promise<void> {
  const folder = await openCacheFolder(root);
  if (!folder) return;
  // First the marks: a file that has lost a part must not count as whole.
  const names = (await namesIn(folder)).sort((a, b) => Number(b.endsWith(".done")) - Number(a.endsWith(".done")));
  for (const name of names) {
    await removeEntry(folder, name).catch((error: unknown) => {
      if (!(error instanceof Error) || error.name !== "NoModificationAllowedError") throw error;
    });
  }
}

async function namesIn(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  for await (const name of folder.keys()) names.push(name);
  return names;
}

/** The cache's folder, or `undefined` where storage is blocked or cannot be written from here. */
async function openCacheFolder(
  given: FileSystemDirectoryHandle | undefined,
): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    const root = given ?? (await navigator.storage.getDirectory());
    const folder = await root.getDirectoryHandle("heed-cache", { create: true });
    const probe = await folder.getFileHandle("probe", { create: true });
    // Safari before 26 has files here that only a worker can write, and not by this call.
    return typeof probe.createWritable === "function" ? folder : undefined;
  } catch {
    return undefined;
  }
}

/** The leading segments of a blob that have their full size; with `begun` also one after them that was begun. */
async function segmentsOf(
  folder: FileSystemDirectoryHandle,
  key: string,
  { sizeBytes, segmentBytes, begun = false }: { sizeBytes: number; segmentBytes: number; begun?: boolean },
): Promise<File[]> {
  const files: File[] = [];
  for (let at = 0; at < sizeBytes; at += segmentBytes) {
    const file = await openFile(folder, `${key}.${files.length}`);
    const whole = Math.min(segmentBytes, sizeBytes - at);
    if (!file || file.size > whole || (file.size < whole && !begun)) break;
    files.push(file);
    if (file.size < whole) break;
  }
  return files;
}

class SegmentedFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #files: File[];

  constructor(files: File[], name: string, sizeBytes: number) {
    this.#files = files;
    this.name = name;
    this.sizeBytes = sizeBytes;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    let fileStart = 0;
    for (const file of this.#files) {
      const from = Math.max(start, fileStart) - fileStart;
      const to = Math.min(end, fileStart + file.size) - fileStart;
      if (from < to) yield* new BlobFile(file, this.name).stream(from, to, options);
      fileStart += file.size;
    }
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }
}

interface OpfsWriterState {
  folder: FileSystemDirectoryHandle;
  key: string;
  segmentBytes: number;
  sizeBytes: number;
  written: number;
}

class OpfsWriter implements BlobWriter {
  readonly #state: OpfsWriterState;
  #open: FileSystemWritableFileStream | undefined;

  constructor(state: OpfsWriterState) {
    this.#state = state;
  }

  get writtenBytes(): number {
    return this.#state.written;
  }

  async *readBack(): AsyncIterable<Uint8Array> {
    const files = await segmentsOf(this.#state.folder, this.#state.key, { ...this.#state, begun: true });
    for (const file of files) yield* new BlobFile(file, this.#state.key).stream(0, file.size);
  }

  async append(bytes: Uint8Array): Promise<void> {
    const state = this.#state;
    await guardQuota(async () => {
      for (let at = 0; at < bytes.length; ) {
        const index = Math.floor(state.written / state.segmentBytes);
        const segmentEnd = Math.min(state.sizeBytes, (index + 1) * state.segmentBytes);
        const take = Math.min(bytes.length - at, segmentEnd - state.written);
        this.#open ??= await this.#openSegment(index, state.written - index * state.segmentBytes);
        await this.#open.write(bytes.subarray(at, at + take) as Uint8Array<ArrayBuffer>);
        at += take;
        state.written += take;
        if (state.written === segmentEnd) {
          await this.#open.close();
          this.#open = undefined;
        }
      }
    });
  }

  /** A new segment, or one that was begun, behind the bytes that it has. */
  async #openSegment(index: number, at: number): Promise<FileSystemWritableFileStream> {
    const handle = await this.#state.folder.getFileHandle(`${this.#state.key}.${index}`, { create: true });
    const stream = await handle.createWritable({ keepExistingData: at > 0 });
    if (at > 0) await stream.seek(at);
    return stream;
  }

  async restart(): Promise<void> {
    const { folder, key, segmentBytes, sizeBytes } = this.#state;
    await this.close();
    for (let i = 0; i * segmentBytes < sizeBytes; i++) await removeEntry(folder, `${key}.${i}`);
    this.#state.written = 0;
  }

  finish(): Promise<void> {
    const { folder, key, sizeBytes } = this.#state;
    return guardQuota(() => writeText(folder, `${key}.done`, String(sizeBytes)));
  }

  async close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    // What has arrived of a segment becomes a file by closing it; where that fails, the segment begins anew.
    await open?.close().catch(() => undefined);
  }
}

function sum(files: File[]): number {
  return files.reduce((total, file) => total + file.size, 0);
}

async function openFile(folder: FileSystemDirectoryHandle, name: string): Promise<File | undefined> {
  try {
    return await (await folder.getFileHandle(name)).getFile();
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function readText(folder: FileSystemDirectoryHandle, name: string): Promise<string | undefined> {
  return (await openFile(folder, name))?.text();
}

async function writeText(folder: FileSystemDirectoryHandle, name: string, text: string): Promise<void> {
  const handle = await folder.getFileHandle(name, { create: true });
  const writable = await handle.createWritable();
  await writable.write(text);
  await writable.close();
}

async function removeEntry(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await folder.removeEntry(name);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

async function guardQuota<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Error) || cause.name !== "QuotaExceededError") throw cause;
    throw new HeedError(
      "LIMIT",
      "cache: the browser must have room for the download; got its limit for this site. " +
        "Free disk space or this site's data; the download goes on where it stopped.",
      { cause },
    );
  }
}
