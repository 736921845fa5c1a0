import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { beginRun } from "../../src/train/run_node.ts";
import { lockFolder } from "../../src/train/run_lock_node.ts";

/** True: the file system knows no links, or is full. */
const fault = vi.hoisted(() => ({ hasNoLinks: false, isFull: false }));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const coded = (code: string) => Object.assign(new Error(code), { code });
  return {
    ...real,
    link: async (...args: Parameters<typeof real.link>) => {
      if (fault.hasNoLinks) throw coded("EPERM");
      return real.link(...args);
    },
    writeFile: async (...args: Parameters<typeof real.writeFile>) => {
      if (fault.isFull) throw coded("ENOSPC");
      return real.writeFile(...args);
    },
  };
});

let folder: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  Object.assign(fault, { hasNoLinks: false, isFull: false });
  folder = join(mkdtempSync(join(tmpdir(), "heed-lock-")), "runs", "one");
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(join(folder, "..", ".."), { recursive: true, force: true });
});

const lock = (): string => join(folder, ".heed-lock");

/** A process that is at work until it is killed. */
async function otherProcess(): Promise<{ readonly pid: number; kill(): Promise<void> }> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000); console.log('there')"]);
  children.push(child);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = (): Promise<void> => {
    child.kill("SIGKILL");
    return ended;
  };
  return { pid: child.pid as number, kill };
}

function leaveLock(holder: object | string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(lock(), typeof holder === "string" ? holder : JSON.stringify(holder));
}

/** Takes the folder and gives it back. */
const take = async (): Promise<void> => (await lockFolder(folder)).release();

describe("the lock of an output folder", () => {
  it("lets one run in, names it to the next, and leaves nothing", async () => {
    const first = await lockFolder(folder);
    const again = lockFolder(folder);
    const message = expect.stringMatching(
      new RegExp(
        `by one run at a time; got one that is at work there: process ${process.pid} on .*, since 20.* choose another`,
      ),
    );
    await expect(again).rejects.toMatchObject({ code: "USAGE", message });
    await first.release();
    expect(existsSync(join(folder, ".."))).toBe(false);
    await take();
  });

  it("is kept while its process runs, and taken over once that was killed", async () => {
    const other = await otherProcess();
    leaveLock({ pid: other.pid, host: hostname(), since: "2026-01-01T00:00:00.000Z" });
    await expect(take()).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining(`process ${other.pid} on ${hostname()}, since 2026-01-01`),
    });
    await expect(beginRun(folder, false)).rejects.toMatchObject({ code: "USAGE" });
    await other.kill();
    await take();
    expect(readdirSync(folder)).toEqual([]);
  });

  it.runIf(process.platform === "linux")(
    "is taken over where another process has its holder's number now",
    async () => {
      const other = await otherProcess();
      leaveLock({ pid: other.pid, host: hostname(), since: "then", process: "another-boot 1" });
      await take();
      leaveLock({ pid: process.pid, host: hostname(), since: "then" });
      await take();
    },
  );

  it("of another machine is left, with a way to mend it", async () => {
    leaveLock({ pid: 1, host: "elsewhere.example", since: "then" });
    await expect(take()).rejects.toMatchObject({
      message: expect.stringMatching(/process 1 on elsewhere\.example.*If it runs no more.*remove .*\.heed-lock/),
    });
    expect(existsSync(lock())).toBe(true);
  });

  it("that a kill has left half written is taken over", async () => {
    leaveLock("");
    await take();
    leaveLock('{"pid": 1');
    await take();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("goes to one of many that want it at once", async () => {
    leaveLock({ pid: 2 ** 22 + 1, host: hostname(), since: "then" });
    const all = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder)));
    const won = all.filter(({ status }) => status === "fulfilled");
    expect(won.length).toBe(1);
    expect(JSON.parse(readFileSync(lock(), "utf8")).pid).toBe(process.pid);
    for (const one of all) if (one.status === "fulfilled") await one.value.release();
  });

  it("is kept and taken over on a file system without links, too", async () => {
    fault.hasNoLinks = true;
    const first = await lockFolder(folder);
    await expect(take()).rejects.toMatchObject({ code: "USAGE" });
    expect(readdirSync(folder)).toEqual([".heed-lock"]);
    await first.release();
    leaveLock({ pid: 2 ** 22 + 1, host: hostname(), since: "then" });
    await take();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("says that the disk is full, and leaves no folder", async () => {
    fault.isFull = true;
    await expect(take()).rejects.toMatchObject({ code: "BAD_FILE", message: expect.stringContaining("a full disk") });
    expect(existsSync(join(folder, ".."))).toBe(false);
  });

  it("says that a file is in the way", async () => {
    mkdirSync(join(folder, ".."), { recursive: true });
    writeFileSync(folder, "");
    await expect(take()).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining("a file where a folder must be"),
    });
  });
});
