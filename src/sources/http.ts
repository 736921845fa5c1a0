import { abortError, HeedError, throwIfAborted } from "../core/errors.ts";
import { lengthError, type ReadOptions } from "../core/source.ts";

/** How requests are made and repeated; every field has a default. */
export interface HttpOptions {
  /** A replacement for the global `fetch`. */
  fetch?: typeof fetch;
  /** Headers of every request, such as `Authorization`; `fetch` drops that one when redirected to another origin. */
  headers?: Record<string, string>;
  /** Tries after the first, without progress in between, before giving up. Default 5. */
  retries?: number;
  /** Wait before the first retry, doubled each time. Default 500 ms. */
  retryDelayMs?: number;
  /** A connection that is silent for this long is given up and tried again. Default 60 s. */
  idleTimeoutMs?: number;
}

/** What a server says about a file without sending it. */
export interface ProbedFile {
  sizeBytes: number;
  /** The entity tag without quotes, `undefined` where there is none or only a weak one. */
  etag?: string;
  lastModified?: string;
  /** SHA-256 of the content, where the server gives it (the Hub's `X-Linked-ETag` of large files). */
  sha256?: string;
  /** The commit that the Hub resolved the revision to. */
  commit?: string;
}

/** A file on a server, as {@link HttpClient.stream} needs it. */
export interface RemoteTarget {
  url: string;
  name: string;
  sizeBytes: number;
  etag?: string;
}

/** Turns an answer that is no success into the error to throw. */
export type Explain = (response: Response) => HeedError;

interface RequestOptions extends ReadOptions {
  what: string;
  range?: string;
  redirect?: RequestRedirect;
}

const RETRIED_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);
const MAX_RETRY_AFTER_MS = 60_000;
const MAX_RESUMPTIONS = 1000;
const MAX_REDIRECTS = 5;
/** A server without ranges is only asked for positions this close to the front: the rest would be thrown away. */
const MAX_SKIPPED_BYTES = 16 * 2 ** 20;

/** `fetch` with ranges, bounded retries and resumption. */
export class HttpClient {
  readonly #fetch: typeof fetch;
  readonly #headers: Record<string, string>;
  readonly #retries: number;
  readonly #retryDelayMs: number;
  readonly #idleTimeoutMs: number;

  constructor(options: HttpOptions = {}) {
    const chosen = options.fetch ?? globalThis.fetch;
    this.#fetch = (input, init) => chosen(input, init);
    this.#headers = options.headers ?? {};
    this.#retries = options.retries ?? 5;
    this.#retryDelayMs = options.retryDelayMs ?? 500;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? 60_000;
  }

  /**
   * The first answer that is not a passing failure (408, 425, 429, 5xx, no connection): those are tried again, after
   * the time that `Retry-After` names if that is at most a minute. Throws `NETWORK` when tries run out, `ABORTED`.
   */
  async request(url: string, options: RequestOptions): Promise<{ response: Response; watch: Watchdog }> {
    for (let tries = 0; ; tries++) {
      throwIfAborted(options.signal, options.what);
      const watch = new Watchdog(this.#idleTimeoutMs, options.signal);
      let problem: string;
      let waitMs = this.#retryDelayMs * 2 ** tries * (0.75 + Math.random() / 2);
      try {
        const headers = options.range ? { ...this.#headers, Range: options.range } : this.#headers;
        const init = {
          headers,
          signal: watch.signal,
          redirect: options.redirect ?? "follow",
          cache: "no-store",
        } as const;
        const response = await this.#fetch(url, init);
        watch.feed();
        if (!RETRIED_STATUS.has(response.status)) return { response, watch };
        problem = `status ${response.status}`;
        const asked = retryAfterMs(response);
        if (asked > MAX_RETRY_AFTER_MS)
          throw networkError(options.what, `${problem}, to be tried again in ${asked / 1000} s`);
        waitMs = Math.max(waitMs, asked);
        watch.stop();
      } catch (error) {
        watch.stop();
        throwIfAborted(options.signal, options.what);
        if (error instanceof HeedError) throw error;
        problem = watch.timedOut ? `no answer in ${this.#idleTimeoutMs} ms` : causeOf(error);
      }
      if (tries >= this.#retries) throw networkError(options.what, `${problem} after ${tries + 1} tries`);
      await sleep(waitMs, options);
    }
  }

  /**
   * Size and identity of the file at `url`, from one byte of it, or `undefined` for 404. Redirects are followed by
   * hand where the platform shows them, because the Hub puts its headers on the redirecting answer.
   */
  async probe(url: string, options: ReadOptions & { name: string; explain: Explain }): Promise<ProbedFile | undefined> {
    const { signal, name } = options;
    const ask = { what: `open ${name}`, range: "bytes=0-0", signal };
    let at = url;
    for (let hops = 0; hops < MAX_REDIRECTS; hops++) {
      let { response, watch } = await this.request(at, { ...ask, redirect: "manual" });
      try {
        const size = response.headers.get("X-Linked-Size");
        const location = response.headers.get("Location");
        if (response.status >= 300 && response.status < 400 && size === null && location !== null) {
          const next = new URL(location, at);
          if (next.origin === new URL(at).origin) {
            at = next.href;
            continue;
          }
        }
        if (size === null && (response.type === "opaqueredirect" || location !== null)) {
          watch.stop();
          ({ response, watch } = await this.request(at, ask));
        }
        if (response.status === 404) {
          if (isOtherThanEntry(response)) throw options.explain(response);
          return undefined;
        }
        const probed = readProbe(response);
        if (!probed) throw options.explain(response);
        return probed;
      } finally {
        watch.stop();
      }
    }
    throw networkError(`open ${name}`, `more than ${MAX_REDIRECTS} redirects`);
  }

  /** A JSON answer of at most `maxBytes` bytes; anything but success becomes `explain`'s error. */
  async json(
    url: string,
    options: ReadOptions & { what: string; maxBytes: number; explain: Explain },
  ): Promise<unknown> {
    for (let tries = 0; ; tries++) {
      const { response, watch } = await this.request(url, options);
      try {
        if (!response.ok) throw options.explain(response);
        const parts: Uint8Array[] = [];
        let total = 0;
        for await (const chunk of bodyOf(response, watch)) {
          total += chunk.length;
          if (total > options.maxBytes) throw networkError(options.what, `an answer beyond ${options.maxBytes} bytes`);
          parts.push(chunk);
        }
        return JSON.parse(await new Blob(parts as BlobPart[]).text());
      } catch (error) {
        throwIfAborted(options.signal, options.what);
        if (error instanceof HeedError) throw error;
        const isJson = response.headers.get("Content-Type")?.includes("json");
        if (!isJson || tries >= this.#retries) throw networkError(options.what, causeOf(error));
      } finally {
        watch.stop();
      }
      await sleep(this.#retryDelayMs * 2 ** tries, options);
    }
  }

  /**
   * The bytes `[start, end)` of `target`: when the connection breaks, stalls or ends early, the rest is asked for
   * again, as long as something arrives in one of `retries` tries. Throws `BAD_FILE` when the file is another one
   * than `target` says, `UNSUPPORTED` when ranges are needed and the server has none, `NETWORK`, `ABORTED`.
   */
  async *stream(
    target: RemoteTarget,
    start: number,
    end: number,
    options: ReadOptions & { explain: Explain },
  ): AsyncGenerator<Uint8Array, void, void> {
    const what = `download ${target.name}`;
    let fruitless = 0;
    for (let at = start, tries = 0; at < end; tries++) {
      const before = at;
      const { response, watch } = await this.request(target.url, { ...options, what, range: `bytes=${at}-${end - 1}` });
      let problem = "the connection ended early";
      try {
        let skip = checkAnswer(response, target, { at, resumed: at > start, explain: options.explain });
        for await (const chunk of bodyOf(response, watch)) {
          const from = Math.min(skip, chunk.length);
          const to = Math.min(chunk.length, from + end - at);
          skip -= from;
          if (to === from) continue;
          at += to - from;
          yield chunk.subarray(from, to);
          if (at >= end) return;
        }
      } catch (error) {
        throwIfAborted(options.signal, what);
        if (error instanceof HeedError) throw error;
        problem = watch.timedOut ? `nothing arrived for ${this.#idleTimeoutMs} ms` : causeOf(error);
      } finally {
        watch.stop();
      }
      throwIfAborted(options.signal, what);
      fruitless = at > before ? 0 : fruitless + 1;
      if (fruitless > this.#retries || tries >= MAX_RESUMPTIONS) {
        throw networkError(what, `${problem} at byte ${at} of ${target.sizeBytes}, ${tries + 1} times`);
      }
      await sleep(this.#retryDelayMs * 2 ** fruitless, { ...options, what });
    }
  }
}

/** Aborts a request when the caller's signal fires or nothing arrives for a while. */
export class Watchdog {
  readonly #controller = new AbortController();
  readonly #idleMs: number;
  readonly #outer: AbortSignal | undefined;
  readonly #onAbort = () => this.#controller.abort(this.#outer?.reason);
  #timer: ReturnType<typeof setTimeout> | undefined;
  timedOut = false;

  constructor(idleMs: number, outer: AbortSignal | undefined) {
    this.#idleMs = idleMs;
    this.#outer = outer;
    outer?.addEventListener("abort", this.#onAbort, { once: true });
    this.feed();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something arrived: the time of silence begins anew. */
  feed(): void {
    this.pause();
    this.#timer = setTimeout(() => {
      this.timedOut = true;
      this.#controller.abort();
    }, this.#idleMs);
  }

  /** Stops the clock while the consumer, not the server, is at work. */
  pause(): void {
    clearTimeout(this.#timer);
  }

  /** Ends the request, whatever is left of it. */
  stop(): void {
    this.pause();
    this.#outer?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }
}

async function* bodyOf(response: Response, watch: Watchdog): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader();
  while (reader) {
    watch.feed();
    const { done, value } = await reader.read();
    watch.pause();
    if (done) return;
    yield value;
  }
}

/** Checks that an answer is about the right bytes of the right file; returns how many bytes to pass over. */
function checkAnswer(
  response: Response,
  target: RemoteTarget,
  { at, resumed, explain }: { at: number; resumed: boolean; explain: Explain },
): number {
  if (response.status === 416) throw lengthError(target.name, target.sizeBytes, at);
  if (response.status !== 200 && response.status !== 206) throw explain(response);
  const etag = strongEtag(response.headers.get("ETag"));
  if (target.etag !== undefined && etag !== undefined && etag !== target.etag) {
    throw new HeedError(
      "BAD_FILE",
      `download: ${target.name} must stay the same while it is read; got ETag ${etag} after ${target.etag}. Load it again.`,
    );
  }
  if (response.status === 206) {
    const range = parseContentRange(response.headers.get("Content-Range"));
    // Null where the server does not expose the header to pages: then the length is all that can be checked.
    if (range === undefined || (range.start === at && (range.total ?? target.sizeBytes) === target.sizeBytes)) return 0;
    throw new HeedError(
      "BAD_FILE",
      `download: ${target.name} must have ${target.sizeBytes} bytes, sent from byte ${at}; ` +
        `got Content-Range ${response.headers.get("Content-Range")}. Load it again.`,
    );
  }
  if (at > MAX_SKIPPED_BYTES && !resumed) {
    throw new HeedError(
      "UNSUPPORTED",
      `download: the server of ${target.name} must answer range requests; got the whole file for bytes from ${at}. ` +
        "Serve the folder with a server that does, or load a local copy.",
    );
  }
  return at;
}

/** True for a 404 by which the Hub says that the repository or revision, not the file, is missing. */
function isOtherThanEntry(response: Response): boolean {
  const code = response.headers.get("X-Error-Code");
  return code !== null && code !== "EntryNotFound";
}

function readProbe(response: Response): ProbedFile | undefined {
  const { headers, status } = response;
  const redirected = status >= 300 && status < 400;
  const linkedSize = headers.get("X-Linked-Size");
  const total =
    linkedSize !== null
      ? Number(linkedSize)
      : status === 206
        ? parseContentRange(headers.get("Content-Range"))?.total
        : status === 416
          ? emptyTotal(headers.get("Content-Range"))
          : status === 200 && headers.get("Content-Encoding") === null && headers.has("Content-Length")
            ? Number(headers.get("Content-Length"))
            : undefined;
  if (total === undefined || !Number.isSafeInteger(total) || total < 0) return undefined;
  const linked = strongEtag(headers.get("X-Linked-ETag"))?.toLowerCase();
  // The tag of a redirect belongs to the Hub, that of the file's bytes to another server: only the latter is compared.
  const etag = redirected ? undefined : strongEtag(headers.get("ETag"));
  const lastModified = redirected ? undefined : (headers.get("Last-Modified") ?? undefined);
  const commit = headers.get("X-Repo-Commit") ?? undefined;
  const sha256 = linked !== undefined && /^[0-9a-f]{64}$/.test(linked) ? linked : undefined;
  return { sizeBytes: total, etag, lastModified, commit, sha256 };
}

function emptyTotal(contentRange: string | null): number | undefined {
  return contentRange?.trim() === "bytes */0" ? 0 : undefined;
}

function parseContentRange(text: string | null): { start: number; total: number | undefined } | undefined {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(text?.trim() ?? "");
  if (!match) return undefined;
  return { start: Number(match[1]), total: match[2] === "*" ? undefined : Number(match[2]) };
}

function strongEtag(value: string | null): string | undefined {
  return value === null || value.startsWith("W/") ? undefined : value.replace(/^"|"$/g, "");
}

function retryAfterMs(response: Response): number {
  const value = response.headers.get("Retry-After");
  if (value === null) return 0;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

function networkError(what: string, got: string): HeedError {
  return new HeedError("NETWORK", `${what}: the server must answer; got ${got}. Check the connection and try again.`);
}

/** `fetch` says only "fetch failed"; what happened is in the cause. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}

function sleep(ms: number, { signal, what }: ReadOptions & { what: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(abortError(what, signal?.reason));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}
