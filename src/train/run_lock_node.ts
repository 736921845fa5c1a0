import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { link, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { codeOf, makeFolder } from "../core/make_folder_node.ts";
import { writeError } from "./checkpoint_node.ts";

/** The file that says which process writes in a folder. */
const LOCK = ".heed-lock";

/** What stands in it. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells runs of one process apart. */
  readonly run: string;
  /** When the run began, for people. */
  readonly since: string;
  /** Tells the process from a later one of its number; absent where the system does not say. */
  readonly process?: string | undefined;
}

/** A folder that one run alone writes in. */
export interface FolderLock {
  /** Lets others write there; a folder that was made for the run and is empty is removed. */
  release(): Promise<void>;
}

/** The runs of this process: its own number in a file may be left by a process that had the number before. */
const runs = new Set<string>();

const ATTEMPTS = 20;
/** A file that is empty is being written, or was left so by a kill. */
const UNREADABLE_WAIT_MS = 50;

/**
 * Takes a folder, which is made where it is not there, for one run. What a killed process of this machine has left is taken over. Throws `USAGE`
 * where another run has it, and `BAD_FILE` where it can't be written.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, LOCK);
  const made: string[] = [];
  const run = randomUUID();
  runs.add(run);
  try {
    const content = `${JSON.stringify(await ownHolder(run))}\n`;
    await take(folder, { path, content, made });
    return {
      async release() {
        runs.delete(run);
        if ((await readText(path)) === content) await rm(path, { force: true }).catch(() => {});
        await removeEmpty(made);
      },
    };
  } catch (error) {
    runs.delete(run);
    await removeEmpty(made);
    throw writeError(folder, error);
  }
}

/** Throws `USAGE` where a run is at work in a folder. */
export async function checkUnlocked(folder: string): Promise<void> {
  const path = join(folder, LOCK);
  const holder = parseHolder((await readText(path)) ?? "");
  if (holder && (await isAtWork(holder))) throw takenError(folder, path, holder);
}

interface Taking {
  readonly path: string;
  readonly content: string;
  /** Folders that were made for it. */
  readonly made: string[];
}

async function take(folder: string, { path, content, made }: Taking): Promise<void> {
  for (let attempt = 0, unreadable = 0; attempt < ATTEMPTS; attempt++) {
    made.push(...(await makeFolder(folder)));
    if (await create(folder, path, content)) return;
    const found = await readText(path);
    if (found === undefined) continue;
    const holder = parseHolder(found);
    if (!holder && unreadable++ < ATTEMPTS / 2) {
      await setTimeout(UNREADABLE_WAIT_MS);
      continue;
    }
    if (holder && (await isAtWork(holder))) throw takenError(folder, path, holder);
    await removeStale(folder, path, found);
  }
  throw new HeedError(
    "BAD_FILE",
    `save: ${folder} must be written by one run; got several that began at once. Try again.`,
  );
}

/** Puts the file there whole; false where there is one. */
async function create(folder: string, path: string, content: string): Promise<boolean> {
  const part = join(folder, `.unfinished-${randomUUID()}`);
  const isNew = (work: Promise<void>): Promise<boolean> =>
    work.then(
      () => true,
      (error: unknown) => {
        // The folder, or what is unfinished in it, may have been removed by a run that has just ended or begun.
        if (codeOf(error) === "EEXIST" || codeOf(error) === "ENOENT") return false;
        throw error;
      },
    );
  try {
    if (!(await isNew(writeFile(part, content)))) return false;
    // File systems of memory cards, for one, know no links.
    return await isNew(link(part, path)).catch(() => isNew(writeFile(path, content, { flag: "wx" })));
  } finally {
    await rm(part, { force: true }).catch(() => {});
  }
}

/** Removes what was found, unless somebody has put another in its place meanwhile. */
async function removeStale(folder: string, path: string, found: string): Promise<void> {
  const aside = join(folder, `.unfinished-${randomUUID()}`);
  try {
    await rename(path, aside);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return;
    throw error;
  }
  if ((await readText(aside)) !== found) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

async function isAtWork({ pid, host, run, process: id }: Holder): Promise<boolean> {
  if (host !== hostname()) return true;
  if (pid === process.pid) return runs.has(run);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) === "ESRCH") return false;
  }
  const now = await processId(pid);
  return now !== "ended" && (id === undefined || now === undefined || id === now);
}

function takenError(folder: string, path: string, { pid, host, since }: Holder): HeedError {
  const mend =
    host === hostname() ? "" : ` If it runs no more (which can't be seen from here, ${hostname()}), remove ${path}.`;
  return new HeedError(
    "USAGE",
    `train: ${folder} must be written by one run at a time; got one that is at work there: process ${pid} on ${host}, since ${since}. Wait for its end, stop it, or choose another output.${mend}`,
  );
}

async function ownHolder(run: string): Promise<Holder> {
  const id = await processId(process.pid);
  return { pid: process.pid, host: hostname(), run, since: new Date().toISOString(), ...(id ? { process: id } : {}) };
}

/** What sets a process apart from all others that had or will have its number: when it began. `ended` for one that is not there. */
async function processId(pid: number): Promise<string | undefined> {
  if (process.platform === "win32") return undefined;
  if (process.platform !== "linux") return startByPs(pid);
  const stat = await readText(`/proc/${pid}/stat`);
  if (stat === undefined) return (await readText("/proc/self/stat")) === undefined ? undefined : "ended";
  // The program's name, in brackets, may hold anything: the state is the first field behind it, the time of its start the twentieth.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return "ended";
  const boot = (await readText("/proc/sys/kernel/random/boot_id"))?.trim() ?? "";
  return `${boot} ${fields[19]}`;
}

async function startByPs(pid: number): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)("ps", ["-o", "lstart=", "-p", String(pid)]);
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}

function parseHolder(text: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value) || !Number.isSafeInteger(value["pid"]) || typeof value["host"] !== "string") return undefined;
    return value as unknown as Holder;
  } catch {
    return undefined;
  }
}

/** Undefined where there is none, or none that can be read. */
function readText(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}

async function removeEmpty(folders: readonly string[]): Promise<void> {
  for (const folder of [...folders].reverse()) await rmdir(folder).catch(() => {});
}
