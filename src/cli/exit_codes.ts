import { HeedError } from "../core/errors.ts";

/** The exit codes that people and scripts may rely on. */
export const EXIT = { OK: 0, FAILED: 1, USAGE: 2, NO_GPU: 3, INTERRUPTED: 130 } as const;

/** The exit code that an error ends the command with. */
export function exitCode(error: unknown): number {
  if (!(error instanceof HeedError)) return EXIT.FAILED;
  if (error.code === "USAGE") return EXIT.USAGE;
  if (error.code === "NO_WEBGPU" || error.code === "NO_ADAPTER") return EXIT.NO_GPU;
  if (error.code === "ABORTED") return EXIT.INTERRUPTED;
  return EXIT.FAILED;
}
