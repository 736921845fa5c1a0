import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createStopMatcher } from "../../src/text/stop_strings.ts";

function run(stops: string[], pieces: string[]): { text: string; stop: string | undefined } {
  const matcher = createStopMatcher(stops);
  let text = "";
  let stop: string | undefined;
  for (const piece of pieces) {
    const result = matcher.push(piece);
    text += result.text;
    stop = result.stop;
  }
  return { text: text + matcher.flush(), stop };
}

/** The same by looking at every prefix of the whole text. */
function slowly(stops: string[], text: string): { text: string; stop: string | undefined } {
  for (let end = 1; end <= text.length; end++) {
    const stop = stops.filter((s) => text.slice(0, end).endsWith(s)).sort((a, b) => b.length - a.length)[0];
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop };
  }
  return { text, stop: undefined };
}

describe("stop strings", () => {
  it("cut at a match that spans pieces, and drop what follows", () => {
    expect(run(["\n\nUser:"], ["Hi.\n", "\nUs", "er: no"])).toEqual({ text: "Hi.", stop: "\n\nUser:" });
    expect(run(["ab"], ["xab", "more"])).toEqual({ text: "x", stop: "ab" });
  });

  it("hold back only what may become a stop string", () => {
    const matcher = createStopMatcher(["</end>"]);
    expect(matcher.push("a </")).toEqual({ text: "a " });
    expect(matcher.push("b")).toEqual({ text: "</b" });
    expect(matcher.push(" <")).toEqual({ text: " " });
    expect(matcher.flush()).toBe("<");
  });

  it("refuse an empty string", () => {
    expect(() => createStopMatcher(["a", ""])).toThrow(/stop: each stop string must have a character/);
  });

  it("do not depend on how the text is divided", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c", "🙂"), maxLength: 30 });
    const stop = fc.string({ unit: fc.constantFrom("a", "b", "c", "🙂"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(text, { maxLength: 6 }), fc.array(stop, { maxLength: 3 }), (pieces, stops) => {
        expect(run(stops, pieces)).toEqual(slowly(stops, pieces.join("")));
      }),
      { numRuns: 500, seed: 5 },
    );
  });
});
