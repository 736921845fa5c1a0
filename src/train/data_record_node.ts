import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { basename, join } from "node:path";
import { isObject } from "../core/json.ts";
import { readJsonFile } from "./checkpoint_node.ts";

/** What a file of data was: kept in checkpoints, so that one that has changed is told of. */
interface FileRecord {
  readonly name: string;
  readonly sizeBytes: number;
  /** Of its size, first and last MiB: a large file is not read whole for it. */
  readonly sha256: string;
}

/** Files of data by what they are for, such as `text` and `validation`. */
export type DataRecord = Readonly<Record<string, FileRecord>>;

/** The file of a checkpoint that holds a {@link DataRecord}. */
export const DATA_RECORD = "data.json";

const HASHED_BYTES = 2 ** 20;

/** Looks into files by what they are for. One that is no plain file, or can't be read, is left out: whoever reads it says so. */
export async function recordData(paths: Readonly<Record<string, string | undefined>>): Promise<DataRecord> {
  const found: Record<string, FileRecord> = {};
  for (const [use, path] of Object.entries(paths)) {
    const record = path === undefined ? undefined : await recordFile(path).catch(() => undefined);
    if (record) found[use] = record;
  }
  return found;
}

async function recordFile(path: string): Promise<FileRecord | undefined> {
  const file = await open(path, "r");
  try {
    const stats = await file.stat();
    if (!stats.isFile()) return undefined;
    const sizeBytes = stats.size;
    const hash = createHash("sha256").update(`${sizeBytes}\n`);
    for (const start of [0, Math.max(HASHED_BYTES, sizeBytes - HASHED_BYTES)]) {
      hash.update(await readPart(file, start, Math.min(HASHED_BYTES, sizeBytes - start)));
    }
    return { name: basename(path), sizeBytes, sha256: hash.digest("hex") };
  } finally {
    await file.close();
  }
}

async function readPart(file: FileHandle, start: number, length: number): Promise<Uint8Array> {
  if (length <= 0) return new Uint8Array();
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, start);
  return buffer.subarray(0, bytesRead);
}

/** Says how data differs from what a checkpoint in `folder` was trained on; undefined where it does not, or the checkpoint does not tell. */
export async function changedData(folder: string, now: DataRecord): Promise<string | undefined> {
  const before = await readJsonFile(join(folder, DATA_RECORD)).catch(() => undefined);
  if (!isObject(before)) return undefined;
  const changed = Object.entries(now).flatMap(([use, { name, sizeBytes, sha256 }]) => {
    const was = before[use];
    if (!isObject(was) || was["sha256"] === sha256) return [];
    const sizes = was["sizeBytes"] === sizeBytes ? "" : `, ${sizeBytes} bytes instead of ${String(was["sizeBytes"])}`;
    return [`${name} (${use}${sizes})`];
  });
  if (changed.length === 0) return undefined;
  return `the data has changed since the checkpoint: ${changed.join(", ")}; the position in it is kept`;
}
