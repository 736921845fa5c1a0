import { HeedError } from "../core/errors.ts";
import { type FilesInput, filesSource } from "./files.ts";
import type { HubOptions } from "./hub.ts";
import type { Source } from "../core/source.ts";

/** What names a checkpoint: `hf:owner/name[@revision]`, an http(s) URL, chosen files, or a source already made. */
export type SourceSpec = string | URL | FilesInput | Source;

/** Options of {@link openSource}: those of the Hub; a URL and files take what applies to them. */
export interface OpenSourceOptions extends Omit<HubOptions, "cache"> {
  /** Where downloads are kept. Default: the page's private file system, or a folder in Node; `false` for nowhere. */
  cache?: HubOptions["cache"] | false;
}

/**
 * The source that `spec` names, for pages: `hf:owner/name[@revision]`, a URL of a folder, files, or a source, which is
 * returned as it is. (In Node, `heed/node` has an `openSource` that also takes paths.) Throws `USAGE`.
 */
export async function openSource(spec: SourceSpec, options: OpenSourceOptions = {}): Promise<Source> {
  if (isSource(spec)) return spec;
  if (typeof spec !== "string" && !(spec instanceof URL)) return filesSource(spec);
  if (!isRemoteSpec(spec)) {
    throw new HeedError(
      "USAGE",
      `openSource: a model is hf:owner/name, an http(s) URL or chosen files; got ${JSON.stringify(spec)}. ` +
        "Local paths need the openSource of heed/node.",
    );
  }
  // Loaded when a model is fetched: a page that opens files pays nothing for it.
  const { openRemote, opfsCache } = await import("./remote.ts");
  const cache = options.cache === undefined ? await opfsCache() : options.cache;
  return openRemote(spec, { ...options, cache: cache || undefined });
}

/** True for `hf:…` and http(s) URLs. */
export function isRemoteSpec(spec: string | URL): boolean {
  return /^(hf:|https?:\/\/)/i.test(String(spec));
}

/** True for something that already is a {@link Source}. */
export function isSource(spec: SourceSpec): spec is Source {
  return typeof spec === "object" && "readText" in spec && "open" in spec;
}
