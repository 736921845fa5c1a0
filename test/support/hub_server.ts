import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** A file's content: bytes, text, or a file on disk that is streamed. */
export type HubContent = Uint8Array | string | { path: string };

/** A repository of the server. */
export interface HubRepo {
  files: Record<string, HubContent>;
  /** Names served as large files: a redirect to the other server, with the SHA-256 in `X-Linked-ETag`. Default: *.safetensors. */
  isLarge?: (name: string) => boolean;
  /** Answers 401 without this token. */
  token?: string;
  /** Answers 403 to everybody: terms not accepted. */
  gated?: boolean;
}

/** What goes wrong with the next `times` requests whose `METHOD /path` contains `match`. */
export interface HubFault {
  match: string;
  /** Default 1. */
  times?: number;
  /** Answer with this status and nothing else. */
  status?: number;
  headers?: Record<string, string>;
  /** Break the connection after so many bytes of the body. */
  truncateAfter?: number;
  /** Send the body in pieces of so many bytes, `dripMs` apart. */
  dripBytes?: number;
  dripMs?: number;
  /** Send headers, then nothing, for ever. */
  stall?: boolean;
  /** Flip the bits of the file's byte at this position. */
  corruptAt?: number;
  /** Answer 200 with the whole file. */
  ignoreRange?: boolean;
  /** Break the connection before any answer. */
  hangUp?: boolean;
}

export interface HubRequest {
  method: string;
  path: string;
  range: string | undefined;
  authorization: string | undefined;
  /** True for the server that large files are redirected to. */
  cdn: boolean;
}

/** A local server that behaves like the Hugging Face Hub, with a second one on another port as its CDN. */
export interface HubServer {
  /** To be used as HF_ENDPOINT. */
  readonly url: string;
  /** A URL at which the files of a repository lie like in a plain folder. */
  plainUrl(repo: string): string;
  readonly requests: HubRequest[];
  readonly faults: HubFault[];
  /** False makes it a mirror that serves files but has no `/api`. Default true. */
  hasApi: boolean;
  /** False leaves sizes and hashes out of the API's answer. Default true. */
  hasBlobs: boolean;
  /** Adds or replaces a repository; returns the commit that `main` then points to. */
  setRepo(name: string, repo: HubRepo): string;
  close(): Promise<void>;
}

interface Stored {
  name: string;
  large: boolean;
  bytes?: Uint8Array;
  path?: string;
  size: number;
  sha256: string;
}

interface StoredRepo extends HubRepo {
  commit: string;
  stored: Map<string, Stored>;
}

/** Starts the two servers on free loopback ports. */
export async function startHubServer(): Promise<HubServer> {
  const hub = new FakeHub();
  await hub.start();
  return hub;
}

class FakeHub implements HubServer {
  readonly requests: HubRequest[] = [];
  readonly faults: HubFault[] = [];
  hasApi = true;
  hasBlobs = true;
  readonly #repos = new Map<string, StoredRepo>();
  readonly #hub = createServer((request, response) => this.#answer(request, response, false));
  readonly #cdn = createServer((request, response) => this.#answer(request, response, true));

  get url(): string {
    return addressOf(this.#hub);
  }

  plainUrl(repo: string): string {
    return `${addressOf(this.#cdn)}/plain/${repo}/`;
  }

  async start(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  setRepo(name: string, repo: HubRepo): string {
    const isLarge = repo.isLarge ?? ((file: string) => file.endsWith(".safetensors"));
    const stored = new Map(
      Object.entries(repo.files).map(([file, content]) => [file, store(file, content, isLarge(file))]),
    );
    const commit = createHash("sha1");
    for (const file of stored.values()) commit.update(`${file.name} ${file.sha256}\n`);
    const id = commit.digest("hex");
    this.#repos.set(name, { ...repo, commit: id, stored });
    return id;
  }

  async #answer(request: IncomingMessage, response: ServerResponse, cdn: boolean): Promise<void> {
    const { method = "", headers } = request;
    allowPages(response);
    if (method === "OPTIONS") return void response.writeHead(204).end();
    const path = decodeURIComponent((request.url ?? "").replace(/\?.*/, ""));
    this.requests.push({ method, path, range: headers.range, authorization: headers.authorization, cdn });
    const fault = this.#takeFault(`${method} ${cdn ? "cdn" : ""}${path}`);
    try {
      if (fault?.hangUp) request.socket.destroy();
      else if (fault?.status) response.writeHead(fault.status, fault.headers).end("fault");
      else if (cdn) await this.#sendFromCdn(path, request, response, fault);
      else await this.#sendFromHub(path, request, response, fault);
    } catch (error) {
      response.destroy(error instanceof Error ? error : undefined);
    }
  }

  #takeFault(line: string): HubFault | undefined {
    const index = this.faults.findIndex((fault) => line.includes(fault.match));
    const fault = this.faults[index];
    if (fault) {
      fault.times = (fault.times ?? 1) - 1;
      if (fault.times <= 0) this.faults.splice(index, 1);
    }
    return fault;
  }

  async #sendFromHub(
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    fault?: HubFault,
  ): Promise<void> {
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+|refs\/pr\/\d+)\/(.+)$/.exec(path);
    const [, name = "", revision = "", fileName = ""] = api ?? file ?? [];
    if (path.startsWith("/api/") && !this.hasApi) return void response.writeHead(404).end("no api here");
    const repo = this.#repos.get(name);
    if (!repo) return refuse(response, 401, "RepoNotFound");
    if (repo.token && request.headers.authorization !== `Bearer ${repo.token}`)
      return refuse(response, 401, "RepoNotFound");
    if (repo.gated) return refuse(response, 403, "GatedRepo");
    if (revision !== "main" && revision !== repo.commit) return refuse(response, 404, "RevisionNotFound");
    if (api) return this.#sendInfo(repo, name, response);
    const stored = repo.stored.get(fileName);
    if (!stored) return refuse(response, 404, "EntryNotFound");
    response.setHeader("X-Repo-Commit", repo.commit);
    if (!stored.large) return sendFile(stored, request, response, fault);
    response.setHeader("X-Linked-Size", stored.size);
    response.setHeader("X-Linked-ETag", `"${stored.sha256}"`);
    const location = `${addressOf(this.#cdn)}/lfs/${name}/${fileName}`;
    response.writeHead(302, { Location: location }).end();
  }

  #sendInfo(repo: StoredRepo, id: string, response: ServerResponse): void {
    const siblings = [...repo.stored.values()].map((file) => ({
      rfilename: file.name,
      ...(this.hasBlobs && { size: file.size, blobId: file.sha256.slice(0, 40) }),
      ...(this.hasBlobs && file.large && { lfs: { sha256: file.sha256, size: file.size, pointerSize: 134 } }),
    }));
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ id, sha: repo.commit, siblings }));
  }

  async #sendFromCdn(
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    fault?: HubFault,
  ): Promise<void> {
    const [, repo = "", file = ""] = /^\/(?:lfs|plain)\/([^/]+\/[^/]+)\/(.+)$/.exec(path) ?? [];
    const stored = this.#repos.get(repo)?.stored.get(file);
    if (!stored) return void response.writeHead(404).end();
    await sendFile(stored, request, response, fault);
  }
}

/** As the Hub and its CDN do, so that pages of any origin may read. */
function allowPages(response: ServerResponse): void {
  response.setHeader("Access-Control-Allow-Origin", "*");
  response.setHeader("Access-Control-Allow-Headers", "Authorization, Range");
  const exposed = "X-Repo-Commit, X-Error-Code, ETag, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag";
  response.setHeader("Access-Control-Expose-Headers", exposed);
}

function store(name: string, content: HubContent, large: boolean): Stored {
  if (typeof content === "object" && "path" in content) {
    const { size } = statSync(content.path);
    // Hashing a large file would hold up the test: its identity is enough here, and such files are not served as large.
    const sha256 = createHash("sha256").update(`${content.path} ${size}`).digest("hex");
    return { name, large: false, path: content.path, size, sha256 };
  }
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { name, large, bytes, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "X-Error-Code": code, "Content-Type": "application/json" });
  response.end(JSON.stringify({ error: code }));
}

async function sendFile(
  file: Stored,
  request: IncomingMessage,
  response: ServerResponse,
  fault?: HubFault,
): Promise<void> {
  const etag = `"${file.sha256.slice(0, 40)}"`;
  response.setHeader("ETag", etag);
  if (!fault?.ignoreRange) response.setHeader("Accept-Ranges", "bytes");
  if (request.headers["if-none-match"] === etag) return void response.writeHead(304).end();
  const match = fault?.ignoreRange ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = match ? Number(match[1]) : 0;
  const end = match?.[2] ? Math.min(Number(match[2]) + 1, file.size) : file.size;
  if (match && start >= file.size) {
    return void response.writeHead(416, { "Content-Range": `bytes */${file.size}` }).end();
  }
  if (match) response.setHeader("Content-Range", `bytes ${start}-${end - 1}/${file.size}`);
  response.writeHead(match ? 206 : 200, { "Content-Length": end - start });
  if (request.method === "HEAD") return void response.end();
  // Headers go out at once, so that a client sees an answer before a stall or a break.
  response.flushHeaders();
  if (fault?.stall) return;
  await sendBody(file, { start, end }, response, fault);
}

async function sendBody(
  file: Stored,
  { start, end }: { start: number; end: number },
  response: ServerResponse,
  fault: HubFault = { match: "" },
): Promise<void> {
  const stop = Math.min(end, start + (fault.truncateAfter ?? Number.POSITIVE_INFINITY));
  let at = start;
  for await (const chunk of piecesOf(file, start, stop, fault.dripBytes ?? 65536)) {
    if (response.destroyed) return;
    const position = (fault.corruptAt ?? -1) - at;
    const body =
      position >= 0 && position < chunk.length
        ? Uint8Array.from(chunk, (b, i) => (i === position ? b ^ 255 : b))
        : chunk;
    at += chunk.length;
    if (!response.write(body)) await drained(response);
    if (fault.dripMs) await delay(fault.dripMs);
  }
  if (stop === end) return void response.end();
  // Time for what was written to leave, before the connection breaks.
  await delay(20);
  response.destroy();
}

async function* piecesOf(file: Stored, start: number, end: number, size: number): AsyncGenerator<Uint8Array> {
  if (start >= end) return;
  if (file.path) yield* createReadStream(file.path, { start, end: end - 1, highWaterMark: size });
  for (let at = start; file.bytes && at < end; at += size) yield file.bytes.subarray(at, Math.min(end, at + size));
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
