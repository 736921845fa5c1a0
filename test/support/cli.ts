import { spawn } from "node:child_process";
import { vi } from "vitest";
import { main } from "../../src/cli/main.ts";
import { ROOT } from "./built.ts";

export interface CliRun {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs `heed` with arguments; `env` is laid over the test's own, `interruptOn` sends SIGINT once a stream shows that text. */
export function runCli(
  args: readonly string[],
  options: {
    env?: Record<string, string | undefined>;
    stdin?: string;
    interruptOn?: { stream: "stdout" | "stderr"; text: RegExp };
  } = {},
): Promise<CliRun> {
  // Vitest sets variables that change how programs print.
  const env = { ...process.env, VITEST: undefined, FORCE_COLOR: undefined, NO_COLOR: undefined, ...options.env };
  const child = spawn(process.execPath, [`${ROOT}/bin/heed.mjs`, ...args], { env, stdio: "pipe" });
  child.stdin.end(options.stdin ?? "");
  let stdout = "";
  let stderr = "";
  let interrupted = false;
  const interrupt = () => {
    if (interrupted || options.interruptOn === undefined) return;
    const { stream, text } = options.interruptOn;
    interrupted = text.test(stream === "stdout" ? stdout : stderr);
    if (interrupted) child.kill("SIGINT");
  };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    interrupt();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    interrupt();
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

/** Runs the command line in this process, which is quicker; for what needs neither the GPU nor signals. */
export async function runMain(args: readonly string[]): Promise<CliRun> {
  let stdout = "";
  let stderr = "";
  const out = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  const err = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += text;
    return true;
  });
  try {
    const code = await main(args);
    return { code, stdout, stderr };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}
