import { HeedError, isHeedError, throwIfAborted } from "../core/errors.ts";
import type { FileCache } from "./cache.ts";
import { sha256Hex } from "./hash.ts";
import { type Explain, HttpClient, type HttpOptions, type ProbedFile } from "./http.ts";
import { RemoteFile } from "./remote_file.ts";
import {
  checkFileName,
  type DownloadProgress,
  type ReadOptions,
  readTextOf,
  type Source,
  type SourceFile,
} from "../core/source.ts";

/** How {@link hubSource} reaches the Hub. */
export interface HubOptions extends Omit<HttpOptions, "headers"> {
  /** Default: the variable `HF_ENDPOINT` in Node, else `https://huggingface.co`. */
  endpoint?: string;
  /** Access token for private and gated models. Default: the variable `HF_TOKEN` in Node. Sent to the endpoint alone. */
  token?: string;
  /** Where files are kept; none unless given. */
  cache?: FileCache;
  /** Use only what the cache holds. Default: true in Node if the variable `HF_HUB_OFFLINE` is 1. */
  offline?: boolean;
  onProgress?: (progress: DownloadProgress) => void;
}

/** A parsed `hf:owner/name[@revision]`. */
export interface HubName {
  /** `owner/name`, or `name` alone for the Hub's oldest models. */
  repo: string;
  /** Branch, tag, `refs/pr/1` or commit; `main` unless given. */
  revision: string;
}

interface RepoFile {
  name: string;
  sizeBytes?: number;
  sha256?: string;
}

interface RepoInfo {
  /** What the revision pointed to when it was looked up; every file is read from this commit. */
  commit: string;
  /** Undefined where the endpoint does not list files (a plain mirror). */
  files?: RepoFile[];
}

const DEFAULT_ENDPOINT = "https://huggingface.co";
const MAX_INFO_BYTES = 16 * 2 ** 20;
const COMMIT = /^[0-9a-f]{40}$/;

/** Parses `hf:owner/name[@revision]`; throws `USAGE` for anything else. */
export function parseHubName(spec: string): HubName {
  const match = /^hf:([\w.-]+(?:\/[\w.-]+)?)(?:@([\w.\-/]+))?$/.exec(spec);
  const [, repo = "", revision = "main"] = match ?? [];
  if (!match || /(^|\/)\.\.?(\/|$)/.test(`${repo}/${revision}`) || /^\/|\/\/|\/$/.test(revision)) {
    throw new HeedError(
      "USAGE",
      `hub: a model is named hf:owner/name or hf:owner/name@revision; got ${JSON.stringify(spec)}.`,
    );
  }
  return { repo, revision };
}

/**
 * A model repository of the Hugging Face Hub, `hf:owner/name[@revision]`, as a {@link Source}. The revision is resolved to a
 * commit once, and all files come from it. With a cache, files are kept under their SHA-256 (or commit and path), so that
 * revisions share them; a revision that is a full commit is then read without any request.
 * Calls throw `NETWORK` with the repository and the mend for 401, 403, 404 and servers that stay silent; `BAD_FILE` for
 * content that does not match its hash; `LIMIT` for a full disk; `ABORTED`. The constructor throws `USAGE`.
 */
export function hubSource(spec: string, options: HubOptions = {}): Source {
  return new HubSource(parseHubName(spec), options);
}

/** A variable of the process in Node, `undefined` in a page. */
export function environment(name: string): string | undefined {
  const value = globalThis.process?.env?.[name];
  return value === "" ? undefined : value;
}

class HubSource implements Source {
  readonly description: string;
  readonly #name: HubName;
  readonly #options: HubOptions;
  readonly #endpoint: string;
  readonly #client: HttpClient;
  readonly #hasToken: boolean;
  readonly #offline: boolean;
  #info: Promise<RepoInfo> | undefined;

  constructor(name: HubName, options: HubOptions) {
    const token = options.token ?? environment("HF_TOKEN");
    if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
      throw new HeedError(
        "USAGE",
        "hub: a token must be printable characters without spaces; got others. Check HF_TOKEN.",
      );
    }
    this.#name = name;
    this.#options = options;
    this.#endpoint = checkEndpoint(options.endpoint ?? environment("HF_ENDPOINT") ?? DEFAULT_ENDPOINT);
    this.#hasToken = token !== undefined;
    this.#offline = options.offline ?? environment("HF_HUB_OFFLINE") === "1";
    this.#client = new HttpClient({
      ...options,
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
    });
    this.description = `hf:${name.repo}@${name.revision}`;
  }

  async open(name: string, options: ReadOptions = {}): Promise<SourceFile | undefined> {
    checkFileName(name);
    throwIfAborted(options.signal, `open ${name}`);
    const info = await this.#resolved(options);
    const known = info.files?.find((file) => file.name === name);
    if (info.files && !known) return undefined;
    const url = this.#fileUrl(info.commit, name);
    if (known?.sizeBytes !== undefined) return this.#file(url, { ...known, sizeBytes: known.sizeBytes }, info.commit);
    const probed = await this.#probe(url, name, info, options);
    if (!probed) return undefined;
    const commit = probed.commit ?? info.commit;
    // Without a list of files, the first answer that names its commit decides for the files after it.
    if (!info.files) info.commit = commit;
    return this.#file(this.#fileUrl(commit, name), { name, ...probed }, commit);
  }

  async list(options: ReadOptions = {}): Promise<string[]> {
    const { files } = await this.#resolved(options);
    return (files ?? []).map((file) => file.name).sort();
  }

  readText(name: string, options: ReadOptions & { maxBytes?: number } = {}): Promise<string | undefined> {
    return readTextOf(this, name, options);
  }

  async #probe(url: string, name: string, info: RepoInfo, options: ReadOptions): Promise<ProbedFile | undefined> {
    const key = recordKey(`${url} size`);
    const isPinned = COMMIT.test(info.commit);
    const kept = isPinned ? parseProbed(await this.#options.cache?.readRecord(key)) : undefined;
    if (kept) return kept;
    if (this.#offline) throw this.#offlineError(name);
    const probed = await this.#client.probe(url, { ...options, name, explain: this.#explain });
    if (probed && isPinned) await this.#options.cache?.writeRecord(key, JSON.stringify(probed));
    return probed;
  }

  #file(url: string, file: RepoFile & { sizeBytes: number; etag?: string }, commit: string): SourceFile {
    const { cache, onProgress } = this.#options;
    // A moving revision without ETag or hash gives nothing that tells two versions apart: such a file is not kept.
    const identity = COMMIT.test(commit) ? "" : file.etag;
    const key = file.sha256 ? `sha256-${file.sha256}` : `hub-${sha256Hex(`${url} ${identity} ${file.sizeBytes}`)}`;
    const cached = cache && (file.sha256 !== undefined || identity !== undefined) ? { cache, key } : undefined;
    return new RemoteFile({
      client: this.#client,
      explain: this.#explain,
      url,
      name: file.name,
      sizeBytes: file.sizeBytes,
      sha256: file.sha256,
      cached,
      onProgress,
    });
  }

  #fileUrl(commit: string, name: string): string {
    const path = name.split("/").map(encodeURIComponent).join("/");
    return `${this.#endpoint}/${this.#name.repo}/resolve/${encodeURIComponent(commit)}/${path}`;
  }

  /** One look-up for all calls; one that failed is forgotten, and one that another call's signal stopped, repeated. */
  async #resolved(options: ReadOptions): Promise<RepoInfo> {
    for (;;) {
      this.#info ??= this.#resolve(options).catch((error) => {
        this.#info = undefined;
        throw error;
      });
      try {
        return await this.#info;
      } catch (error) {
        throwIfAborted(options.signal, `look up ${this.description}`);
        if (!isHeedError(error, "ABORTED")) throw error;
      }
    }
  }

  async #resolve({ signal }: ReadOptions): Promise<RepoInfo> {
    const { repo, revision } = this.#name;
    const { cache } = this.#options;
    const key = recordKey(`${this.#endpoint} ${repo} ${revision}`);
    const kept = COMMIT.test(revision) || this.#offline ? parseKept(await cache?.readRecord(key)) : undefined;
    if (kept) return kept;
    if (this.#offline) throw this.#offlineError("its list of files");
    const url = `${this.#endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
    // A mirror may serve files without this interface; a 404 that does not say what is missing may be one.
    let isPlainMirror = false;
    const explain: Explain = (response) => {
      isPlainMirror = response.status === 404 && response.headers.get("X-Error-Code") === null;
      return this.#explain(response);
    };
    try {
      const answer = await this.#client.json(url, {
        signal,
        what: `look up ${this.description}`,
        maxBytes: MAX_INFO_BYTES,
        explain,
      });
      const info = readInfo(answer);
      if (!info) throw this.#failure("an answer without a commit", "Check HF_ENDPOINT.");
      if (info.files) await this.#remember(info, key);
      return info;
    } catch (error) {
      if (!isPlainMirror) throw error;
      await this.#requireAnyFile({ signal }, error);
      return { commit: revision };
    }
  }

  /** Rethrows `error` unless the endpoint has a config.json there: else a wrong name would read as a missing file. */
  async #requireAnyFile(options: ReadOptions, error: unknown): Promise<void> {
    const url = this.#fileUrl(this.#name.revision, "config.json");
    if (!(await this.#client.probe(url, { ...options, name: "config.json", explain: this.#explain }))) throw error;
  }

  async #remember(info: RepoInfo, key: string): Promise<void> {
    const text = JSON.stringify(info);
    const byCommit = recordKey(`${this.#endpoint} ${this.#name.repo} ${info.commit}`);
    await this.#options.cache?.writeRecord(key, text);
    if (COMMIT.test(info.commit)) await this.#options.cache?.writeRecord(byCommit, text);
  }

  readonly #explain: Explain = (response) => {
    const { repo, revision } = this.#name;
    const page = `${this.#endpoint}/${repo}`;
    const token = this.#hasToken
      ? "the token given may not read it: make one that may, at huggingface.co/settings/tokens"
      : "set HF_TOKEN (or the option token) to an access token that may read it";
    switch (response.status) {
      case 401:
        return this.#failure("401 (no such repository, or a private one)", `Check the name; if it is right, ${token}.`);
      case 403:
        return this.#failure(
          "403 (no access)",
          `If ${page} asks for it, accept the model's terms there; then ${token}.`,
        );
      case 404: {
        const missing =
          response.headers.get("X-Error-Code") === "RevisionNotFound" ? `revision ${revision}` : "repository";
        return this.#failure(`404 (no such ${missing})`, `Check the name and revision at ${page}.`);
      }
      default:
        return this.#failure(`status ${response.status}`, `See ${page}, or try again later.`);
    }
  };

  #failure(got: string, mend: string): HeedError {
    return new HeedError(
      "NETWORK",
      `hub: ${this.description} must be readable at ${this.#endpoint}; got ${got}. ${mend}`,
    );
  }

  #offlineError(name: string): HeedError {
    return new HeedError(
      "NETWORK",
      `hub: offline, ${this.description} must be in the cache; got no ${name} there. Load it once without HF_HUB_OFFLINE.`,
    );
  }
}

function checkEndpoint(endpoint: string): string {
  if (/^https?:\/\/[^\s?#]+$/.test(endpoint) && URL.canParse(endpoint)) return endpoint.replace(/\/+$/, "");
  throw new HeedError(
    "USAGE",
    `hub: an endpoint must be an http or https URL; got ${JSON.stringify(endpoint)}. Check HF_ENDPOINT.`,
  );
}

function recordKey(identity: string): string {
  return `hub-${sha256Hex(identity)}.json`;
}

/** The Hub's answer about a revision, or `undefined` if it is not one. */
function readInfo(answer: unknown): RepoInfo | undefined {
  if (!isObject(answer) || typeof answer.sha !== "string" || !/^[\w.-]{1,64}$/.test(answer.sha)) return undefined;
  const files: RepoFile[] = [];
  for (const item of Array.isArray(answer.siblings) ? answer.siblings : []) {
    if (!isObject(item) || typeof item.rfilename !== "string") continue;
    const lfs = isObject(item.lfs) ? item.lfs : {};
    const sizeBytes = asSize(lfs.size) ?? asSize(item.size);
    const sha256 = typeof lfs.sha256 === "string" && /^[0-9a-f]{64}$/.test(lfs.sha256) ? lfs.sha256 : undefined;
    // A large file without its hash is asked about by itself, where the hash is in a header.
    files.push({ name: item.rfilename, sizeBytes: item.lfs && !sha256 ? undefined : sizeBytes, sha256 });
  }
  return files.length > 0 ? { commit: answer.sha, files } : { commit: answer.sha };
}

/** A record that this module wrote; a damaged one is as good as none. */
function parseKept(text: string | undefined): RepoInfo | undefined {
  const value = parseRecord(text);
  if (!isObject(value) || typeof value.commit !== "string" || !Array.isArray(value.files)) return undefined;
  const files = value.files.filter((file): file is RepoFile => isObject(file) && typeof file.name === "string");
  return { commit: value.commit, files };
}

function parseProbed(text: string | undefined): ProbedFile | undefined {
  const value = parseRecord(text);
  const sizeBytes = isObject(value) ? asSize(value.sizeBytes) : undefined;
  if (!isObject(value) || sizeBytes === undefined) return undefined;
  return { sizeBytes, sha256: typeof value.sha256 === "string" ? value.sha256 : undefined };
}

function parseRecord(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asSize(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
