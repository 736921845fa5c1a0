import { readFile, stat } from "node:fs/promises";
import { HeedError } from "../core/errors.ts";

const MOST_BYTES = 2 ** 31;

/** The bytes of a sound file, or of stdin. Throws `USAGE` or `LIMIT` in the name of `command`. */
export async function readSound(command: string, path: string): Promise<Uint8Array> {
  if (path === "-") {
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) throw new HeedError("USAGE", `${command}: there is no file ${path}. Name a WAV file.`);
  if (found.size > MOST_BYTES) {
    throw new HeedError(
      "LIMIT",
      `${command}: a file may have ${MOST_BYTES} bytes; ${path} has ${found.size}. Split it.`,
    );
  }
  return readFile(path);
}
