import { HeedError } from "../core/errors.ts";
import { Tensor } from "../gpu/tensor.ts";

/** What an option must be: a rule in words, and its test. */
interface Kind {
  readonly rule: string;
  readonly fits: (value: unknown) => boolean;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isTensor = (value: unknown): boolean =>
  value instanceof Tensor || (isObject(value) && Array.isArray(value["shape"]) && ArrayBuffer.isView(value["data"]));

const isNumbers = (value: unknown): boolean => Array.isArray(value) && value.every((n) => typeof n === "number");

const TENSOR = "a Tensor, or {shape, data} with a typed array";

/** The kinds of options that direct calls have. */
const KINDS = {
  number: { rule: "a finite number", fits: (value) => typeof value === "number" && Number.isFinite(value) },
  count: {
    rule: "a whole number from 1",
    fits: (value) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 2 ** 30,
  },
  whole: { rule: "a whole number", fits: (value) => Number.isInteger(value) && Math.abs(value as number) <= 2 ** 31 },
  boolean: { rule: "true or false", fits: (value) => typeof value === "boolean" },
  text: { rule: "a text", fits: (value) => typeof value === "string" },
  tensor: { rule: TENSOR, fits: isTensor },
  numbers: { rule: "a list of numbers", fits: isNumbers },
  perBatch: {
    rule: `a number, a list of them, or ${TENSOR}`,
    fits: (value) => typeof value === "number" || isNumbers(value) || isTensor(value),
  },
  window: {
    rule: "a number, or {left, right}",
    fits: (value) =>
      typeof value === "number" ||
      (isObject(value) &&
        Object.entries(value).every(
          ([key, n]) => /^(left|right)$/.test(key) && (n === undefined || typeof n === "number"),
        )),
  },
  relative: {
    rule: `{weight, bidirectional, maxDistance} with weight ${TENSOR}`,
    fits: (value) =>
      isObject(value) &&
      isTensor(value["weight"]) &&
      Object.keys(value).every((key) => ["weight", "bidirectional", "maxDistance"].includes(key)) &&
      ["boolean", "undefined"].includes(typeof value["bidirectional"]) &&
      ["number", "undefined"].includes(typeof value["maxDistance"]),
  },
  dropout: {
    rule: `{rate, rng} with rate a number and rng ${TENSOR}`,
    fits: (value) =>
      isObject(value) &&
      typeof value["rate"] === "number" &&
      isTensor(value["rng"]) &&
      Object.keys(value).every((key) => key === "rate" || key === "rng"),
  },
  capture: { rule: "true, or an object", fits: (value) => value === true || isObject(value) },
  signal: { rule: "an AbortSignal", fits: (value) => value instanceof AbortSignal },
  callback: { rule: "a function", fits: (value) => typeof value === "function" },
} as const satisfies Record<string, Kind>;

/** A kind of option. */
export type KindName = keyof typeof KINDS;

/** The options of every call. */
const SHARED: Readonly<Record<string, KindName>> = {
  as: "text",
  signal: "signal",
  deterministic: "boolean",
  onKernels: "callback",
  onPlan: "callback",
};

/**
 * Throws `USAGE` for options of another kind than `kinds` names, and for operands that are no tensors; `UNSUPPORTED` for an option
 * that there is not. Shapes and ranges are left to the op.
 */
export function checkCall(
  op: string,
  operands: Readonly<Record<string, unknown>>,
  options: unknown,
  kinds: Readonly<Record<string, KindName>>,
): void {
  if (options !== undefined && !isObject(options)) {
    throw new HeedError(
      "USAGE",
      `${op}: options must be an object; got ${shown(options)}. Leave them out for the defaults.`,
    );
  }
  for (const [name, value] of Object.entries(operands))
    checkKind(op, name, value, "tensor", "Give its shape and its numbers.");
  const known = { ...SHARED, ...kinds };
  for (const [name, value] of Object.entries(options ?? {})) {
    if (value === undefined) continue;
    if (!Object.hasOwn(known, name)) {
      throw new HeedError(
        "UNSUPPORTED",
        `${op}: there is no option "${name}"; there are ${Object.keys(known).join(", ")}.`,
      );
    }
    checkKind(op, name, value, known[name] as KindName, "Leave it out for the default.");
  }
}

function checkKind(op: string, name: string, value: unknown, kind: KindName, mend: string): void {
  const { rule, fits } = KINDS[kind];
  if (!fits(value)) throw new HeedError("USAGE", `${op}: ${name} must be ${rule}; got ${shown(value)}. ${mend}`);
}

/** A value for a message, short and on one line, whatever it is. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return value === null ? "null" : "nothing";
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value !== "object") return String(value).slice(0, 40);
  return Object.keys(value).length > 0 ? `{${Object.keys(value).slice(0, 6).join(", ")}}` : "an empty object";
}
