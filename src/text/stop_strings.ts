import { HeedError } from "../core/errors.ts";

/** What became of a piece of text. */
export interface StopResult {
  /** Text that is certain to belong to the answer. */
  text: string;
  /** The stop string that was found; text after it is dropped, and so is all that is pushed later. */
  stop?: string;
}

/** Finds stop strings in a stream of pieces. */
export interface StopMatcher {
  push(piece: string): StopResult;
  /** What was held back because a stop string might have begun there; "" after a stop. */
  flush(): string;
}

/**
 * A matcher that gives out text as soon as no stop string can begin in it. The stop string that is complete first ends the
 * text where it begins, the longest if several are complete at one character; pieces may divide the text anywhere.
 *
 * Throws `USAGE` if a stop string is empty.
 */
export function createStopMatcher(stops: readonly string[]): StopMatcher {
  if (stops.some((stop) => stop === "")) {
    throw new HeedError("USAGE", 'stop: each stop string must have a character; got "". Leave it out instead.');
  }
  const longestFirst = [...new Set(stops)].sort((a, b) => b.length - a.length);
  let held = "";
  let found: string | undefined;

  return {
    push(piece) {
      if (found !== undefined) return { text: "", stop: found };
      const text = held + piece;
      const match = firstMatch(text, held.length, longestFirst);
      if (match) {
        found = match.stop;
        held = "";
        return { text: text.slice(0, match.at), stop: match.stop };
      }
      held = text.slice(text.length - heldLength(text, longestFirst));
      return { text: text.slice(0, text.length - held.length) };
    },
    flush() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

/** The match that ends first; `from` characters are known to hold none. */
function firstMatch(text: string, from: number, stops: readonly string[]): { at: number; stop: string } | undefined {
  let best: { at: number; stop: string } | undefined;
  for (const stop of stops) {
    const at = text.indexOf(stop, Math.max(0, from - stop.length + 1));
    if (at >= 0 && (best === undefined || at + stop.length < best.at + best.stop.length)) best = { at, stop };
  }
  return best;
}

/** Length of the longest end of the text with which a stop string could begin. */
function heldLength(text: string, stops: readonly string[]): number {
  const longest = Math.min(text.length, (stops[0]?.length ?? 1) - 1);
  for (let length = longest; length > 0; length--) {
    const end = text.slice(text.length - length);
    if (stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
  }
  return 0;
}
