import { HeedError } from "../core/errors.ts";

/** Tokens of a prompt of `length` that see each other both ways. Throws `USAGE`, in the name of `op`, for more than there are. */
export function prefixOf(op: string, prefixLength: number | "prompt" | undefined, length: number): number {
  if (prefixLength === "prompt") return length;
  const prefix = prefixLength ?? 0;
  if (Number.isInteger(prefix) && prefix >= 0 && prefix <= length) return prefix;
  throw new HeedError(
    "USAGE",
    `${op}: prefixLength must be from 0 to the prompt's ${length} tokens, or "prompt"; got ${prefix}.`,
  );
}
