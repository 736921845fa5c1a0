import { createReadStream } from "node:fs";
import { basename } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { HeedError } from "../../core/errors.ts";
import type { DataFile } from "./lines.ts";

/** A file on disk as a data file; gzip is unpacked if its name ends in .gz. Reading throws `BAD_FILE` where it can't be read. */
export function diskFile(path: string): DataFile {
  return { name: basename(path), open: () => readChunks(path) };
}

async function* readChunks(path: string): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path);
  const unpacked: Readable = path.endsWith(".gz") ? file.pipe(createGunzip()) : file;
  // A pipe does not hand on the errors of its source.
  if (unpacked !== file) file.on("error", (error) => unpacked.destroy(error));
  try {
    for await (const chunk of unpacked) yield chunk as Uint8Array;
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new HeedError("BAD_FILE", `data: ${path} must be a file that can be read; got ${got}. Check the path.`, {
      cause,
    });
  } finally {
    file.destroy();
  }
}
