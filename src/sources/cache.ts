import { abortError, HeedError, throwIfAborted } from "../core/errors.ts";
import type { StreamingHash } from "./hash.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";

/** A place for downloaded files: a folder in Node, the origin's private file system in a page. */
export interface FileCache {
  readonly description: string;
  /** The complete file of that key, or `undefined`; one of another size is damaged, and is removed. */
  openBlob(key: string, name: string, sizeBytes: number): Promise<SourceFile | undefined>;
  /** Begins a file, or goes on with one that a stopped download left. */
  beginBlob(key: string, sizeBytes: number): Promise<BlobWriter>;
  /** A small text written by {@link FileCache.writeRecord}. */
  readRecord(key: string): Promise<string | undefined>;
  writeRecord(key: string, text: string): Promise<void>;
  /** The platform's fastest SHA-256. */
  createSha256(): StreamingHash;
}

/** A file on its way into the cache; nobody sees it before {@link BlobWriter.finish}. */
export interface BlobWriter {
  readonly writtenBytes: number;
  /** What is already written, from the front. */
  readBack(): AsyncIterable<Uint8Array>;
  /** Throws `LIMIT` when the disk is full; what was written before stays for the next try. */
  append(bytes: Uint8Array): Promise<void>;
  /** Drops everything written. */
  restart(): Promise<void>;
  /** Makes the file visible under its key, at once and whole. */
  finish(): Promise<void>;
  /** Lets go; what is not finished stays for the next try. */
  close(): Promise<void>;
}

/** What a download needs to know. */
export interface DownloadJob {
  key: string;
  name: string;
  sizeBytes: number;
  /** Compared with what arrived, where known. */
  sha256?: string;
  /** Bytes from `start` to the file's end. */
  fetch(start: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

interface Flight {
  controller: AbortController;
  result: Promise<SourceFile>;
  listeners: Set<(loadedBytes: number) => void>;
  loadedBytes: number;
}

const flights = new WeakMap<FileCache, Map<string, Flight>>();

/**
 * The cached file of a job, downloaded and checked first if need be. Calls for one key share one download, which stops
 * when the last of them is aborted. Throws `BAD_FILE` when the content does not match its hash, `LIMIT` when the
 * cache is full, `ABORTED`, and what `job.fetch` throws.
 */
export async function cachedFile(
  cache: FileCache,
  job: DownloadJob,
  options: ReadOptions & { onLoaded?: (loadedBytes: number) => void } = {},
): Promise<SourceFile> {
  const { signal, onLoaded } = options;
  throwIfAborted(signal, `download ${job.name}`);
  const ready = await cache.openBlob(job.key, job.name, job.sizeBytes);
  if (ready) return ready;
  const running = flights.get(cache) ?? new Map<string, Flight>();
  flights.set(cache, running);
  // An abandoned download is waited for: what it wrote is free to go on with only when it has let go.
  for (let old = running.get(job.key); old?.controller.signal.aborted; old = running.get(job.key)) {
    await old.result.catch(() => undefined);
  }
  const flight = running.get(job.key) ?? startFlight(cache, job, running);
  const listener = onLoaded ?? (() => undefined);
  // A wrapper of its own per call, so that two calls with one callback count as two.
  const own = (loadedBytes: number) => listener(loadedBytes);
  flight.listeners.add(own);
  if (flight.loadedBytes > 0) own(flight.loadedBytes);
  try {
    return await raceAbort(flight.result, signal, job.name);
  } finally {
    flight.listeners.delete(own);
    if (flight.listeners.size === 0) flight.controller.abort();
  }
}

function startFlight(cache: FileCache, job: DownloadJob, running: Map<string, Flight>): Flight {
  const controller = new AbortController();
  const listeners: Flight["listeners"] = new Set();
  const report = (loadedBytes: number) => {
    flight.loadedBytes = loadedBytes;
    for (const listener of listeners) listener(loadedBytes);
  };
  const start = async () => {
    // The next turn, so that `flight` exists before anything is reported.
    await undefined;
    try {
      return await download(cache, job, { signal: controller.signal, report });
    } finally {
      running.delete(job.key);
    }
  };
  const flight: Flight = { controller, listeners, loadedBytes: 0, result: start() };
  flight.result.catch(() => undefined);
  running.set(job.key, flight);
  return flight;
}

async function download(
  cache: FileCache,
  job: DownloadJob,
  { signal, report }: { signal: AbortSignal; report: (loadedBytes: number) => void },
): Promise<SourceFile> {
  const writer = await cache.beginBlob(job.key, job.sizeBytes);
  try {
    const resumed = writer.writtenBytes > 0;
    // A wrong hash after a resumption may be due to the older part; once more from the front decides.
    for (let again = resumed; ; again = false) {
      const got = await fill(cache, job, writer, { signal, report });
      if (got === job.sha256) break;
      await writer.restart();
      if (!again) throw hashError(job, got);
    }
    await writer.finish();
  } finally {
    await writer.close();
  }
  const file = await cache.openBlob(job.key, job.name, job.sizeBytes);
  if (!file)
    throw new HeedError("BAD_FILE", `download: ${job.name} must stay in ${cache.description}; got nothing there.`);
  return file;
}

/** Brings the writer to full size; returns the SHA-256 of it all if the job has one. */
async function fill(
  cache: FileCache,
  job: DownloadJob,
  writer: BlobWriter,
  { signal, report }: { signal: AbortSignal; report: (loadedBytes: number) => void },
): Promise<string | undefined> {
  const hash = job.sha256 === undefined ? undefined : cache.createSha256();
  if (hash && writer.writtenBytes > 0) for await (const chunk of writer.readBack()) hash.update(chunk);
  report(writer.writtenBytes);
  if (writer.writtenBytes < job.sizeBytes) {
    for await (const chunk of job.fetch(writer.writtenBytes, signal)) {
      throwIfAborted(signal, `download ${job.name}`);
      await writer.append(chunk);
      hash?.update(chunk);
      report(writer.writtenBytes);
    }
  }
  return hash?.digestHex();
}

function hashError(job: DownloadJob, got: string | undefined): HeedError {
  return new HeedError(
    "BAD_FILE",
    `download: ${job.name} must have SHA-256 ${job.sha256}; got ${got}. It was damaged on its way and is dropped: try again.`,
  );
}

function raceAbort<T>(work: Promise<T>, signal: AbortSignal | undefined, name: string): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortError(`download ${name}`, signal.reason));
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    if (signal.aborted) onAbort();
  });
}
