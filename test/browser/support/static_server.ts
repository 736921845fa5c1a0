import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

/** What was asked for. */
export interface ServedRequest {
  readonly path: string;
  /** First byte; 0 for the whole file. */
  readonly start: number;
  readonly bytes: number;
}

/** A server of folders: `/name/…` is the folder that `mounts` gives for `name`. Answers ranges, as models need them. */
export interface StaticServer {
  readonly origin: string;
  /** Everything that was asked for so far. */
  readonly requests: ServedRequest[];
  /** While it is set, files whose path ends so stop after so many bytes of an answer, and the connection stays open. */
  hold: { readonly path: string; readonly bytes: number } | undefined;
  close(): Promise<void>;
}

/** Serves each mounted folder on a free port of this machine alone. */
export async function serveFolders(mounts: Readonly<Record<string, string>>): Promise<StaticServer> {
  const made: StaticServer = {
    ...{ origin: "", requests: [], hold: undefined },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  const server = createServer((request, response) => {
    const [, name = "", ...rest] = decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname).split("/");
    const folder = mounts[name];
    const path = normalize(`/${rest.join("/")}`);
    void answer(
      response,
      folder && join(folder, path.endsWith("/") ? `${path}index.html` : path),
      request.headers.range,
      made,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(made, { origin: `http://127.0.0.1:${port}` });
}

async function answer(
  response: ServerResponse,
  file: string | undefined,
  range: string | undefined,
  { requests, hold }: StaticServer,
): Promise<void> {
  const found = file === undefined ? undefined : await stat(file).catch(() => undefined);
  if (file === undefined || !found?.isFile()) {
    response.writeHead(404).end();
    return;
  }
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const start = Number(from ?? 0);
  const end = Math.min(to ? Number(to) : found.size - 1, found.size - 1);
  const headers: Record<string, string | number> = {
    "content-type": TYPES[extname(file)] ?? "application/octet-stream",
    "content-length": Math.max(0, end - start + 1),
    "accept-ranges": "bytes",
    "last-modified": found.mtime.toUTCString(),
  };
  if (from !== undefined) headers["content-range"] = `bytes ${start}-${end}/${found.size}`;
  response.writeHead(from === undefined ? 200 : 206, headers);
  requests.push({ path: file, start, bytes: end - start + 1 });
  const held = hold && file.endsWith(hold.path) && end - start >= hold.bytes;
  if (found.size === 0) response.end();
  else if (held) createReadStream(file, { start, end: start + hold.bytes - 1 }).pipe(response, { end: false });
  else createReadStream(file, { start, end }).pipe(response);
}
