/** Any list of numbers that a test compares. */
export type Numbers = ArrayLike<number>;

/** How close is close enough: `|actual − expected| ≤ atol + rtol · |expected|`. */
export interface CloseOptions {
  atol: number;
  rtol: number;
  /** What is compared; begins the message. */
  label?: string;
  /** Shape of both arrays, so that the worst place is printed as indices. */
  shape?: readonly number[];
  /** Printed with a failure: seed, device, tier. */
  context?: string;
}

/**
 * Throws unless every element is within tolerance. A NaN is never close; an infinity only to itself. The message
 * names the worst index, its value and the values around it in aligned rows.
 */
export function assertClose(actual: Numbers, expected: Numbers, options: CloseOptions): void {
  const { atol, rtol, label = "values" } = options;
  if (actual.length !== expected.length) {
    throw new Error(`${label}: ${actual.length} values, expected ${expected.length}`);
  }
  let worst = -1;
  let worstExcess = 1;
  let failures = 0;
  for (let i = 0; i < actual.length; i++) {
    const excess = excessOf(actual[i] as number, expected[i] as number, atol, rtol);
    if (excess <= 1) continue;
    failures++;
    if (worst < 0 || excess > worstExcess) {
      worst = i;
      worstExcess = excess;
    }
  }
  if (worst >= 0) throw new Error(report(actual, expected, worst, failures, options));
}

/** Difference over tolerance: > 1 fails. NaN and unequal infinities give Infinity. */
function excessOf(actual: number, expected: number, atol: number, rtol: number): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  if (!Number.isFinite(actual) || !Number.isFinite(expected)) return Number.POSITIVE_INFINITY;
  const tolerance = atol + rtol * Math.abs(expected);
  const difference = Math.abs(actual - expected);
  return tolerance === 0 ? Number.POSITIVE_INFINITY : difference / tolerance;
}

function report(actual: Numbers, expected: Numbers, worst: number, failures: number, options: CloseOptions): string {
  const { atol, rtol, label = "values", shape, context } = options;
  const from = Math.max(0, worst - 3);
  const to = Math.min(actual.length, worst + 4);
  const indices = Array.from({ length: to - from }, (_, i) => from + i);
  const row = (name: string, text: (i: number) => string): string =>
    `  ${name.padEnd(9)}${indices.map((i) => text(i).padStart(15)).join("")}`;
  const a = actual[worst] as number;
  const e = expected[worst] as number;
  return [
    `${label}: ${failures} of ${actual.length} values out of tolerance (atol ${atol}, rtol ${rtol})`,
    `  worst at ${worst}${shape ? ` = [${unravel(worst, shape).join(", ")}] of [${shape.join(", ")}]` : ""}: ` +
      `got ${a}, expected ${e}, difference ${Math.abs(a - e)}`,
    row("index", (i) => `${i === worst ? ">" : ""}${i}`),
    row("actual", (i) => format(actual[i] as number)),
    row("expected", (i) => format(expected[i] as number)),
    ...(context ? [`  ${context}`] : []),
  ].join("\n");
}

function unravel(index: number, shape: readonly number[]): number[] {
  const at: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    at.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return at;
}

function format(value: number): string {
  return Number.isFinite(value) ? value.toPrecision(8) : String(value);
}
