import type { Source } from "../core/source.ts";
import { type HubOptions, hubSource } from "./hub.ts";
import { urlSource } from "./url.ts";

export { opfsCache } from "./cache_opfs.ts";

/** A source for a spec of which {@link isRemoteSpec} is true; a model's page on the Hub counts as its `hf:` name. */
export function openRemote(spec: string | URL, options: HubOptions): Source {
  const text = String(spec);
  const page = /^https:\/\/(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+?)(?:\/tree\/([\w.\-/]+?))?\/?$/.exec(text);
  if (page) return hubSource(`hf:${page[1]}${page[2] ? `@${page[2]}` : ""}`, options);
  return text.startsWith("hf:") ? hubSource(text, options) : urlSource(text, urlOptions(options));
}

/** Only what concerns any server: the Hub's token is not for strangers. */
function urlOptions({ fetch, retries, retryDelayMs, idleTimeoutMs, cache, onProgress }: HubOptions) {
  return { fetch, retries, retryDelayMs, idleTimeoutMs, cache, onProgress };
}
