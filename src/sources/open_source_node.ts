import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { folderCache } from "./cache_folder_node.ts";
import { folderSource } from "./folder_node.ts";
import {
  isRemoteSpec,
  isSource,
  type OpenSourceOptions,
  openSource as openHere,
  type SourceSpec,
} from "./open_source.ts";
import { openRemote } from "./remote.ts";
import type { Source } from "../core/source.ts";

/**
 * The source that `spec` names, in Node: all that the page's `openSource` takes, and the path of a local folder (also
 * `~/…` and `file:` URLs). Downloads are kept in `HEED_CACHE`, by default `~/.cache/heed` or what the platform has for it; `HF_ENDPOINT`, `HF_TOKEN` and
 * `HF_HUB_OFFLINE` are honoured. Throws `USAGE`, and `BAD_FILE` when a path is no folder.
 */
export async function openSource(spec: SourceSpec, options: OpenSourceOptions = {}): Promise<Source> {
  if (isSource(spec) || (typeof spec !== "string" && !(spec instanceof URL))) return openHere(spec, options);
  if (isRemoteSpec(spec)) {
    const cache = options.cache === undefined ? folderCache() : options.cache;
    return openRemote(spec, { ...options, cache: cache || undefined });
  }
  const text = String(spec);
  if (text.startsWith("file:")) return folderSource(fileURLToPath(text));
  return folderSource(text.startsWith("~/") ? join(homedir(), text.slice(2)) : text);
}
