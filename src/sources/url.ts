import { HeedError, throwIfAborted } from "../core/errors.ts";
import type { FileCache } from "./cache.ts";
import { sha256Hex } from "./hash.ts";
import { type Explain, HttpClient, type HttpOptions } from "./http.ts";
import { RemoteFile } from "./remote_file.ts";
import { checkFileName, type DownloadProgress, readTextOf, type Source } from "../core/source.ts";

/** How {@link urlSource} reads. */
export interface UrlOptions extends HttpOptions {
  /** Where files are kept, under URL and ETag (or modification time and size); none unless given. */
  cache?: FileCache;
  onProgress?: (progress: DownloadProgress) => void;
}

/**
 * The files below an http(s) URL, taken as a folder, as a {@link Source}; a query is kept on every file. Each `open` asks the
 * server whether the file is still the one in the cache. Calls throw `NETWORK`, `BAD_FILE` for a file that changes while it
 * is read, `UNSUPPORTED` for a server without range requests where they are needed, `ABORTED`; this one throws `USAGE`.
 */
export function urlSource(baseUrl: string | URL, options: UrlOptions = {}): Source {
  const base = checkBase(baseUrl);
  const client = new HttpClient(options);
  const source: Source = {
    description: base.origin + base.pathname,
    open: async (name, readOptions = {}) => {
      throwIfAborted(readOptions.signal, `open ${name}`);
      const url = new URL(base);
      url.pathname += checkFileName(name).split("/").map(encodeURIComponent).join("/");
      const explain: Explain = (response) => statusError(name, source.description, response.status);
      const probed = await client.probe(url.href, { ...readOptions, name, explain });
      if (!probed) return undefined;
      const { sizeBytes, etag, lastModified } = probed;
      const version = etag ?? lastModified;
      const key = `url-${sha256Hex(`${url.href} ${version} ${sizeBytes}`)}`;
      const cached = options.cache && version !== undefined ? { cache: options.cache, key } : undefined;
      const { onProgress } = options;
      return new RemoteFile({ client, explain, url: url.href, name, sizeBytes, etag, cached, onProgress });
    },
    readText: (name, readOptions) => readTextOf(source, name, readOptions),
  };
  return source;
}

function checkBase(baseUrl: string | URL): URL {
  const url = URL.canParse(String(baseUrl)) ? new URL(baseUrl) : undefined;
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:") || url.username || url.password) {
    const rule = "urlSource: the base must be an http or https URL without a password in it";
    throw new HeedError("USAGE", `${rule}; got ${url ? `${url.protocol}//${url.host}` : JSON.stringify(baseUrl)}.`);
  }
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

function statusError(name: string, where: string, status: number): HeedError {
  const mend =
    status === 401 || status === 403 ? "Check that it may be read without a login." : "Check the URL, or try later.";
  return new HeedError("NETWORK", `download: ${name} must be readable at ${where}; got status ${status}. ${mend}`);
}
