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

/** A server of folders: `/name/…` is the folder that `mounts` gives for `name`. Answers ranges, as models need them. */
export interface StaticServer {
  readonly origin: string;
  close(): Promise<void>;
}

/** Serves each mounted folder on a free port of this machine alone. */
export async function serveFolders(mounts: Readonly<Record<string, string>>): Promise<StaticServer> {
  const server = createServer((request, response) => {
    const [, name = "", ...rest] = decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname).split("/");
    const folder = mounts[name];
    const path = normalize(`/${rest.join("/")}`);
    void answer(
      response,
      folder && join(folder, path.endsWith("/") ? `${path}index.html` : path),
      request.headers.range,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(response: ServerResponse, file: string | undefined, range: string | undefined): Promise<void> {
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
  if (found.size === 0) response.end();
  else createReadStream(file, { start, end }).pipe(response);
}
