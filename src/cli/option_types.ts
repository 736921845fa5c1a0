import { InvalidArgumentError } from "commander";

/** A parser of a number option that has to lie in a range; commander turns its error into exit code 2. */
export function numberIn(range: { min?: number; max?: number; above?: number; integer?: boolean }) {
  const { min = -Infinity, max = Infinity, above = -Infinity, integer = false } = range;
  return (text: string): number => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    const fits = value >= min && value <= max && value > above && (!integer || Number.isSafeInteger(value));
    if (!fits) throw new InvalidArgumentError(`It must be ${describeRange(range)}.`);
    return value;
  };
}

/** Collects an option that may be given several times. */
export function collect(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}

/** How many first tokens see each other both ways: a number, or `prompt` for all of it. */
export function prefixLength(text: string): number | "prompt" {
  if (text === "prompt") return text;
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a number of tokens, or prompt.");
}

/** Token ids, written `1,2,3` or with blanks between. */
export function tokenIds(text: string): number[] {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0 || !words.every((word) => /^\d+$/.test(word))) {
    throw new InvalidArgumentError("It must be token ids such as 1,403,407.");
  }
  return words.map(Number);
}

/** Whole numbers, written `0,3` or with blanks between. */
export function wholeNumbers(text: string): number[] {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0 || !words.every((word) => /^\d+$/.test(word))) {
    throw new InvalidArgumentError("It must be whole numbers such as 0,3.");
  }
  return words.map(Number);
}

/** Heads as `layer.head`, written `0.3,2.1` or with blanks between. */
export function headIds(text: string): { layer: number; head: number }[] {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  return words.map((word) => {
    const [, layer, head] = /^(\d+)\.(\d+)$/.exec(word) ?? [];
    if (layer === undefined) throw new InvalidArgumentError("It must be heads as layer.head, such as 0.3,2.1.");
    return { layer: Number(layer), head: Number(head) };
  });
}

function describeRange(range: { min?: number; max?: number; above?: number; integer?: boolean }): string {
  const parts = [range.integer ? "a whole number" : "a number"];
  if (range.above !== undefined) parts.push(`above ${range.above}${range.max === undefined ? "" : ","}`);
  if (range.min !== undefined && range.max !== undefined) parts.push(`from ${range.min} to ${range.max}`);
  else if (range.min !== undefined) parts.push(`of at least ${range.min}`);
  else if (range.max !== undefined) parts.push(`of at most ${range.max}`);
  return parts.join(" ");
}
