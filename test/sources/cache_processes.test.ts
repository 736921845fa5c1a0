import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HubServer, startHubServer } from "../support/hub_server.ts";

const WEIGHTS = Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 2654435761) >>> 24);
const SHA256 = createHash("sha256").update(WEIGHTS).digest("hex");
const SCRIPT = `
  import { runnerImport } from "vite";
  const [path, ...rest] = process.argv.slice(1);
  const { module } = await runnerImport(path, { configFile: false, logLevel: "error" });
  console.log(await module.download(...rest));
`;

let server: HubServer;
let folder: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  server = await startHubServer();
  server.setRepo("o/m", { files: { "config.json": "{}", "model.safetensors": WEIGHTS } });
  folder = await mkdtemp(join(tmpdir(), "heed-processes-"));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

/** Starts a process that downloads the file; resolves with what it prints, its hash. */
function start(): { child: ChildProcess; output: Promise<string> } {
  const module = fileURLToPath(new URL("../support/download_child.ts", import.meta.url));
  const args = ["--input-type=module", "-e", SCRIPT, module, server.url, "hf:o/m", folder, "model.safetensors"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  let text = "";
  child.stdout?.on("data", (data) => {
    text += String(data);
  });
  return { child, output: new Promise((resolve) => child.on("close", () => resolve(text.trim()))) };
}

function ranges(): string[] {
  return server.requests.filter((r) => r.cdn).map((r) => r.range ?? "");
}

/** Bytes in all parts that are on their way. */
async function writtenBytes(): Promise<number> {
  const names = await readdir(join(folder, "parts")).catch(() => []);
  const sizes = names.map(async (name) => (await stat(join(folder, "parts", name))).size);
  return (await Promise.all(sizes)).reduce((total, size) => total + size, 0);
}

async function until(done: () => Promise<boolean>): Promise<void> {
  while (!(await done())) await delay(20);
}

describe("processes that share a cache folder", () => {
  it("goes on where a process was killed with SIGKILL, and takes no part for the whole", async () => {
    server.faults.push({ match: "cdn", dripBytes: 20_000, dripMs: 20 });
    const first = start();
    await until(async () => (await writtenBytes()) >= 40_000);
    first.child.kill("SIGKILL");
    expect(await first.output).toBe("");
    expect(await readdir(join(folder, "blobs"))).toEqual([]);
    expect(await start().output).toBe(SHA256);
    expect(ranges()[1]).toMatch(/^bytes=[1-9]\d{4,5}-999999$/);
    expect(await readdir(join(folder, "parts"))).toEqual([]);
  });

  it("lets two download at once; a third reads what they left", async () => {
    server.faults.push({ match: "cdn", times: 2, dripBytes: 50_000, dripMs: 20 });
    const both = [start(), start()];
    expect(await Promise.all(both.map((p) => p.output))).toEqual([SHA256, SHA256]);
    const before = ranges().length;
    expect(await start().output).toBe(SHA256);
    expect(ranges().length).toBe(before);
    expect(await readdir(join(folder, "blobs"))).toHaveLength(1);
    expect(await readdir(join(folder, "parts"))).toEqual([]);
  });
});
