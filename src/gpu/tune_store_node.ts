import { randomBytes } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../core/make_folder_node.ts";
import { cacheFolder } from "./drivers_node.ts";
import type { TuneStore } from "./tune.ts";

/** Files below the user's cache folder (`HEED_CACHE`, or the platform's), replaced whole, so that a reader never sees half of one. */
export function folderTuneStore(folder: string = join(cacheFolder(), "tune")): TuneStore {
  return {
    description: folder,
    async read(key) {
      try {
        return await readFile(join(folder, `${key}.json`), "utf8");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
    async write(key, text) {
      await makeFolder(folder);
      const part = join(folder, `${key}.${process.pid}-${randomBytes(4).toString("hex")}.part`);
      try {
        await writeFile(part, text);
        await rename(part, join(folder, `${key}.json`));
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
    },
  };
}
