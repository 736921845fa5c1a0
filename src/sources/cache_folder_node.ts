import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HeedError } from "../core/errors.ts";
import { makeFolder } from "../core/make_folder_node.ts";
import { cacheFolder } from "../gpu/drivers_node.ts";
import type { BlobWriter, FileCache } from "./cache.ts";
import { DiskFile, errorCodeOf, isMissing, messageOf, openDiskFile } from "./folder_node.ts";
import type { StreamingHash } from "./hash.ts";

/** How bytes reach the disk; replaced in tests to fill it up. */
export type WriteAt = (handle: FileHandle, bytes: Uint8Array, position: number) => Promise<number>;

/** A part that nobody has written to for this long belongs to a process that is gone, even if its id lives. */
const STALE_MS = 60_000;

/** Parts that this process is writing, by path. */
const ownParts = new Set<string>();

/**
 * A folder (by default `HEED_CACHE` or the platform's) as a {@link FileCache} (Node only): `blobs/<key>` holds whole files alone, `parts/` what is on its way, and a
 * finished part is flushed to disk and renamed. Several processes may use one folder: each writes parts of its own, and
 * takes over one that a gone process left.
 */
export function folderCache(folder: string = cacheFolder(), options: { writeAt?: WriteAt } = {}): FileCache {
  const writeAt =
    options.writeAt ?? (async (handle, bytes, at) => (await handle.write(bytes, 0, bytes.length, at)).bytesWritten);
  const blobs = join(folder, "blobs");
  const parts = join(folder, "parts");
  const records = join(folder, "records");
  return {
    description: folder,
    openBlob: async (key, name, sizeBytes) => {
      const path = join(blobs, key);
      const file = await openDiskFile(path, name);
      if (!file || file.sizeBytes === sizeBytes) return file;
      await rm(path, { force: true });
      return undefined;
    },
    beginBlob: async (key, sizeBytes) => {
      await guardDisk(folder, () => Promise.all([makeFolder(blobs), makeFolder(parts)]));
      const part = join(parts, `${key}.${process.pid}-${randomBytes(6).toString("hex")}`);
      ownParts.add(part);
      try {
        await adoptPart(parts, key, part);
        const handle = await guardDisk(folder, () => openPart(part));
        return new FolderWriter({ folder, part, handle, blobs, key, writeAt, size: await partSize(handle, sizeBytes) });
      } catch (error) {
        ownParts.delete(part);
        throw error;
      }
    },
    readRecord: async (key) => {
      try {
        return await readFile(join(records, key), "utf8");
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    },
    writeRecord: async (key, text) => {
      const temporary = join(records, `${key}.${process.pid}-${randomBytes(6).toString("hex")}`);
      await guardDisk(folder, async () => {
        await makeFolder(records);
        await writeFile(temporary, text);
        await rename(temporary, join(records, key));
      });
    },
    createSha256: (): StreamingHash => {
      const hash = createHash("sha256");
      return { update: (bytes) => void hash.update(bytes), digestHex: () => hash.digest("hex") };
    },
  };
}

/** Renames the longest part that no live download writes to `mine`; of two who try, the rename lets one win. */
async function adoptPart(parts: string, key: string, mine: string): Promise<void> {
  const found: { path: string; size: number }[] = [];
  for (const name of await readdir(parts)) {
    const match = /^(.+)\.(\d+)-[0-9a-f]{12}$/.exec(name);
    if (match?.[1] !== key) continue;
    const path = join(parts, name);
    if (ownParts.has(path)) continue;
    const info = await stat(path).catch(() => undefined);
    if (!info) continue;
    const pid = Number(match[2]);
    if (pid === process.pid || !isRunning(pid) || Date.now() - info.mtimeMs > STALE_MS)
      found.push({ path, size: info.size });
  }
  found.sort((a, b) => b.size - a.size);
  for (const { path } of found) {
    try {
      await rename(path, mine);
      return;
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCodeOf(error) === "EPERM";
  }
}

async function openPart(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r+");
  } catch (error) {
    if (!isMissing(error)) throw error;
    return open(path, "wx+");
  }
}

async function partSize(handle: FileHandle, sizeBytes: number): Promise<number> {
  const { size } = await handle.stat();
  if (size <= sizeBytes) return size;
  await handle.truncate(0);
  return 0;
}

interface FolderWriterState {
  folder: string;
  part: string;
  handle: FileHandle;
  blobs: string;
  key: string;
  writeAt: WriteAt;
  size: number;
}

class FolderWriter implements BlobWriter {
  readonly #state: FolderWriterState;

  constructor(state: FolderWriterState) {
    this.#state = state;
  }

  get writtenBytes(): number {
    return this.#state.size;
  }

  readBack(): AsyncIterable<Uint8Array> {
    const { part, size, key } = this.#state;
    return new DiskFile(part, key, size).stream(0, size);
  }

  async append(bytes: Uint8Array): Promise<void> {
    const state = this.#state;
    for (let at = 0; at < bytes.length; ) {
      const written = await guardDisk(state.folder, () => state.writeAt(state.handle, bytes.subarray(at), state.size));
      at += written;
      state.size += written;
    }
  }

  async restart(): Promise<void> {
    await this.#state.handle.truncate(0);
    this.#state.size = 0;
  }

  async finish(): Promise<void> {
    const { folder, part, handle, blobs, key } = this.#state;
    const target = join(blobs, key);
    await guardDisk(folder, () => handle.sync());
    // Windows renames no open file.
    await handle.close();
    try {
      await rename(part, target);
    } catch (error) {
      // Another process took over a part that seemed abandoned, and finished it.
      if (!isMissing(error) || !(await openDiskFile(target, key))) throw error;
    }
    ownParts.delete(part);
    await syncFolder(blobs);
  }

  async close(): Promise<void> {
    const { part, handle } = this.#state;
    // A finished part is closed already; closing again is an error to ignore.
    await handle.close().catch(() => undefined);
    ownParts.delete(part);
  }
}

/** Makes a rename survive a power cut, on systems that let a folder be flushed. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

async function guardDisk<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const code = errorCodeOf(cause);
    if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG") {
      throw new HeedError(
        "LIMIT",
        `cache: ${folder} must have room for the download; got ${code}, the disk is full. ` +
          "Free some space, or name another folder in HEED_CACHE; the download goes on where it stopped.",
        { cause },
      );
    }
    throw new HeedError(
      "LIMIT",
      `cache: ${folder} must be a folder that can be written; got ${messageOf(cause)}. Name another one in HEED_CACHE.`,
      { cause },
    );
  }
}
