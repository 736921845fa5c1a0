/** The stable codes that every error thrown by Heed carries; test for these, not for messages. */
export type HeedErrorCode =
  | "NO_WEBGPU"
  | "NO_ADAPTER"
  | "LIMIT"
  | "OUT_OF_MEMORY"
  | "DEVICE_LOST"
  | "BAD_FILE"
  | "UNSUPPORTED"
  | "SHAPE"
  | "ABORTED"
  | "DISPOSED"
  | "USAGE"
  | "NETWORK"
  | "DIVERGED"
  | "INTERNAL";

/**
 * The one error class of Heed. The message says, in this order, what is needed, what was there,
 * and how to mend it, and begins with the operation: `linear: weight must be [out, in]; got …`.
 */
export class HeedError extends Error {
  override readonly name = "HeedError";
  readonly code: HeedErrorCode;

  constructor(code: HeedErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** True if `error` is a {@link HeedError}, optionally with the given code. */
export function isHeedError(error: unknown, code?: HeedErrorCode): error is HeedError {
  return error instanceof HeedError && (code === undefined || error.code === code);
}

/** Throws `ABORTED` if the signal has fired; `what` names the work that was stopped. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw abortError(what, signal.reason);
}

/** The error that every aborted call rejects with; the signal's reason is its cause. */
export function abortError(what: string, reason?: unknown): HeedError {
  return new HeedError("ABORTED", `${what}: stopped by its AbortSignal`, { cause: reason });
}

/** Reports a broken promise of Heed itself: a defect to report, never the user's doing. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new HeedError("INTERNAL", `${message}. This is a defect in Heed; please report it.`);
}
