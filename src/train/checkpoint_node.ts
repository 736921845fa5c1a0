import { randomUUID } from "node:crypto";
import { open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HeedError } from "../core/errors.ts";
import { makeFolder, writeFault } from "../core/make_folder_node.ts";

/** Files by name; each as its chunks in order, or as text. */
export type FilesToWrite = ReadonlyMap<string, readonly Uint8Array[] | string>;

const STEP = /^step-(\d+)$/;
/** What is being written; what a kill left of it is removed by the next write, and by the next run. */
const UNFINISHED = /^\.unfinished-/;

/** A checkpoint in a folder of checkpoints. */
export interface CheckpointFolder {
  readonly path: string;
  readonly step: number;
}

/** The finished checkpoints in `folder`, the newest last; none where there is no such folder. */
export async function listCheckpoints(folder: string): Promise<CheckpointFolder[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw writeError(folder, error);
  });
  return names
    .flatMap((name) => {
      const [, step] = STEP.exec(name) ?? [];
      return step === undefined ? [] : [{ path: join(folder, name), step: Number(step) }];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * Writes a checkpoint as `folder/step-<n>`, so that a kill at any moment leaves it whole or not there: everything is written and synced in
 * a folder of another name, which is then renamed. Afterwards all but the newest `keep` checkpoints, and what kills have left, are
 * removed. Throws `BAD_FILE` where the disk is full or the folder cannot be written; older checkpoints are then untouched.
 */
export async function writeCheckpoint(
  folder: string,
  step: number,
  files: FilesToWrite,
  keep: number,
): Promise<CheckpointFolder> {
  const path = join(folder, `step-${String(step).padStart(8, "0")}`);
  const unfinished = join(folder, `.unfinished-${randomUUID()}`);
  try {
    await makeFolder(unfinished);
    for (const [name, content] of files) await writeSynced(join(unfinished, name), content);
    await syncFolder(unfinished);
    await rename(unfinished, path).catch(async (error: NodeJS.ErrnoException) => {
      // Only a run that repeats this step has one here, of the same bytes.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      await rm(unfinished, { recursive: true });
    });
    await syncFolder(folder);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true }).catch(() => {});
    throw writeError(path, error);
  }
  await removeOld(folder, step, keep);
  return { path, step };
}

/** Replaces a file: the old one or the new one is there whole, whatever happens. Throws `BAD_FILE`. */
export async function replaceFile(path: string, content: readonly Uint8Array[] | string): Promise<void> {
  const unfinished = join(dirname(path), `.unfinished-${randomUUID()}`);
  try {
    await makeFolder(dirname(path));
    await writeSynced(unfinished, content);
    await rename(unfinished, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => {});
    throw writeError(path, error);
  }
}

/** A JSON file of a checkpoint. Throws `BAD_FILE`. */
export async function readJsonFile(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    const mend = cause instanceof SyntaxError ? "Mend the file." : "Check the path.";
    throw new HeedError("BAD_FILE", `read: ${path} must be a JSON file; got ${reason(cause)}. ${mend}`, { cause });
  }
}

async function removeOld(folder: string, newest: number, keep: number): Promise<void> {
  const older = (await listCheckpoints(folder)).filter(({ step }) => step < newest);
  const surplus = older.slice(0, Math.max(0, older.length - (keep - 1)));
  // Renamed first: a folder that is half removed must not look like a checkpoint.
  for (const { path } of surplus) {
    const doomed = join(folder, `.unfinished-${randomUUID()}`);
    await rename(path, doomed).catch(() => {});
  }
  await removeUnfinished(folder);
}

/** Removes what kills have left in a folder that nobody else writes to. */
export async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  const left = names.filter((name) => UNFINISHED.test(name));
  await Promise.all(left.map((name) => rm(join(folder, name), { recursive: true, force: true }).catch(() => {})));
}

async function writeSynced(path: string, content: readonly Uint8Array[] | string): Promise<void> {
  const file = await open(path, "w");
  try {
    const chunks = typeof content === "string" ? [new TextEncoder().encode(content)] : content;
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes names durable. Where folders cannot be synced (Windows), the rename alone has to do. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** What writing into the folder of a run throws: `BAD_FILE`. */
export function writeError(path: string, cause: unknown): HeedError {
  if (cause instanceof HeedError) return cause;
  const [got, mend] = writeFault(cause);
  const goOn =
    got === "a full disk"
      ? `${mend}, then go on with --resume, or begin again if no checkpoint was written yet.`
      : `${mend}.`;
  return new HeedError("BAD_FILE", `save: ${path} must be written; got ${got}. What was there is as it was. ${goOn}`, {
    cause,
  });
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
