import { HeedError } from "./errors.ts";

/** Throws `USAGE` for names that an options object may not have: an option is honoured or refused, never ignored. */
export function checkOptionNames(op: string, options: object, allowed: readonly string[]): void {
  const unknown = Object.keys(options).filter((name) => !allowed.includes(name));
  if (unknown.length === 0) return;
  throw new HeedError("USAGE", `${op}: there is no option ${unknown.join(", ")}; there are ${allowed.join(", ")}.`);
}
