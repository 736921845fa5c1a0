import { access, constants, mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { HeedError } from "./errors.ts";

/**
 * Makes a folder and those above it, one after the other: Node's own way of doing so (`recursive`) never ends where the system takes no folders and
 * says that one is missing, as `/proc` does. Returns those that were made, the outermost first. Throws Node's error, whose code tells the truth:
 * `EROFS` or `EACCES` where nothing may be written, `ENOTDIR` where a file is in the way, `ENOTSUP` where no folder can be made.
 */
export async function makeFolder(path: string): Promise<string[]> {
  const missing: string[] = [];
  let at = resolve(path);
  while (!(await isFolder(at))) {
    missing.unshift(at);
    if (dirname(at) === at) break;
    at = dirname(at);
  }
  const made: string[] = [];
  for (const folder of missing) if (await makeOne(folder)) made.push(folder);
  return made;
}

/** False where there is nothing. Throws `ENOTDIR` for anything but a folder. */
async function isFolder(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true;
  } catch (error) {
    if (codeOf(error) === "ENOENT") return false;
    throw error;
  }
  throw coded("ENOTDIR", `${path} is a file`);
}

/** False where somebody else was quicker. */
async function makeOne(path: string): Promise<boolean> {
  try {
    await mkdir(path);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code === "EEXIST" && (await isFolder(path))) return false;
    if (code === "EEXIST") throw coded("ENOTDIR", `${path} is a link to nothing`);
    if (code !== "ENOENT") throw error;
    // The system says so of a folder that it won't make, too: what is above it tells the truth.
    await access(dirname(path), constants.W_OK);
    throw coded("ENOTSUP", `no folder can be made in ${dirname(path)}`);
  }
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(`${code}: ${message}`), { code });
}

/** What the system calls a fault, such as `ENOENT`; undefined for what has no code. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** What a write met, and how to mend it: both for an error's message. */
export function writeFault(cause: unknown): readonly [got: string, mend: string] {
  switch (codeOf(cause)) {
    case "ENOSPC":
    case "EDQUOT":
      return ["a full disk", "Free some space"];
    case "EROFS":
    case "EACCES":
    case "EPERM":
      return ["a folder that may not be written", "Allow writing there, or choose another output"];
    case "ENOTDIR":
    case "EEXIST":
    case "EISDIR":
      return ["a file where a folder must be, or the reverse", "Move it away, or choose another output"];
    case "ENOTSUP":
      return ["a place where no folder can be made", "Choose another output"];
    case "ENAMETOOLONG":
      return ["a name that is too long", "Choose another output"];
    default:
      return [cause instanceof Error ? cause.message : String(cause), "Look at the folder, or choose another output"];
  }
}

/** What a command throws that can't write into the folder that it was given: `BAD_FILE`. */
export function folderError(command: string, path: string, cause: unknown): HeedError {
  const [got, mend] = writeFault(cause);
  return new HeedError("BAD_FILE", `${command}: ${path} must be a folder to write to; got ${got}. ${mend}.`, { cause });
}
