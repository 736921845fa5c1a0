import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { folderCache } from "./cache_folder_node.ts";
import { folderSource, openDiskFile } from "./folder_node.ts";
import {
  isRemoteSpec,
  isSource,
  type OpenSourceOptions,
  openSource as openHere,
  type SourceSpec,
} from "./open_source.ts";
import { onlyFile, openRemote } from "./remote.ts";
import type { Source } from "../core/source.ts";

/**
 * The source that `spec` names, in Node: all that the page's `openSource` takes, and the path of a local folder or of a .gguf file (also
 * `~/…` and `file:` URLs). Downloads are kept in `HEED_CACHE`, by default `~/.cache/heed` or what the platform has for it; `HF_ENDPOINT`, `HF_TOKEN` and
 * `HF_HUB_OFFLINE` are honoured. Throws `USAGE`, and `BAD_FILE` when a path is no folder.
 */
export async function openSource(spec: SourceSpec, options: OpenSourceOptions = {}): Promise<Source> {
  if (isSource(spec) || (typeof spec !== "string" && !(spec instanceof URL))) return openHere(spec, options);
  if (isRemoteSpec(spec)) {
    const cache = options.cache === undefined ? folderCache() : options.cache;
    return openRemote(spec, { ...options, cache: cache || undefined });
  }
  const path = localPath(String(spec));
  const isFile = WHOLE_MODEL.test(path) && (await openDiskFile(path, basename(path)));
  return isFile ? onlyFile(await folderSource(dirname(path)), basename(path)) : folderSource(path);
}

/** Files that are a model by themselves; those that are not read are opened too, to say what they are. */
const WHOLE_MODEL = /\.(gguf|ggml|onnx|pt|pth|ckpt|h5|tflite|zip|tar|gz|tgz)$/i;

function localPath(text: string): string {
  if (text.startsWith("file:")) return fileURLToPath(text);
  return text.startsWith("~/") ? join(homedir(), text.slice(2)) : text;
}
