import { createHash } from "node:crypto";
import { folderCache } from "../../src/sources/cache_folder_node.ts";
import { hubSource } from "../../src/sources/hub.ts";

/** Downloads a file of a Hub repository into a cache folder and returns its SHA-256; run in a process that can be killed. */
export async function download(endpoint: string, spec: string, folder: string, name: string): Promise<string> {
  const file = await hubSource(spec, { endpoint, cache: folderCache(folder), retryDelayMs: 10 }).open(name);
  if (!file) throw new Error(`${name} is missing`);
  const hash = createHash("sha256");
  for await (const chunk of file.stream(0, file.sizeBytes)) hash.update(chunk);
  return hash.digest("hex");
}
