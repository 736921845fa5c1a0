import type { Source } from "../core/source.ts";
import { type HubOptions, hubSource } from "./hub.ts";
import { urlSource } from "./url.ts";

export { opfsCache } from "./cache_opfs.ts";

/**
 * A source for a spec of which {@link isRemoteSpec} is true; a model's page on the Hub counts as its `hf:` name. One that ends in
 * `.gguf` names a file: `hf:owner/name[@revision]/file.gguf`, its page on the Hub, or a URL.
 */
export function openRemote(spec: string | URL, options: HubOptions): Source {
  const text = String(spec);
  const onHub =
    /^https:\/\/(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+)\/(?:resolve|blob)\/([^/]+)\/(.+\.gguf)$/.exec(text);
  if (onHub) return onlyFile(openRemote(`hf:${onHub[1]}@${onHub[2]}`, options), onHub[3] ?? "");
  const inRepo = /^(hf:[\w.-]+\/[\w.-]+(?:@[^/]+)?)\/(.+\.gguf)$/.exec(text);
  if (inRepo) return onlyFile(openRemote(inRepo[1] ?? "", options), inRepo[2] ?? "");
  const inFolder = /^(https?:\/\/.+\/)([^/?#]+\.gguf)(\?[^#]*)?$/i.exec(text);
  if (inFolder) {
    const folder = openRemote(`${inFolder[1]}${inFolder[3] ?? ""}`, options);
    return onlyFile(folder, decodeURIComponent(inFolder[2] ?? ""));
  }
  const page = /^https:\/\/(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+?)(?:\/tree\/([\w.\-/]+?))?\/?$/.exec(text);
  if (page) return hubSource(`hf:${page[1]}${page[2] ? `@${page[2]}` : ""}`, options);
  return text.startsWith("hf:") ? hubSource(text, options) : urlSource(text, urlOptions(options));
}

/** The same source, asked for one file of it. */
export function onlyFile(source: Source, only: string): Source {
  return {
    description: `${source.description.replace(/\/$/, "")}/${only}`,
    only,
    open: (name, options) => source.open(name, options),
    readText: (name, options) => source.readText(name, options),
  };
}

/** Only what concerns any server: the Hub's token is not for strangers. */
function urlOptions({ fetch, retries, retryDelayMs, idleTimeoutMs, cache, onProgress }: HubOptions) {
  return { fetch, retries, retryDelayMs, idleTimeoutMs, cache, onProgress };
}
