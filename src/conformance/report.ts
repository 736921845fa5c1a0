import type { Tier } from "../gpu/tiers.ts";
import type { Comparison, Tolerance } from "./compare.ts";

/** What became of one output of a case. */
export interface OutputResult extends Comparison, Tolerance {
  /** The output's name, with the path that computed it where there are several: `out (three kernels)`. */
  readonly name: string;
  readonly tier: Tier;
  /** The kernels that ran for it, in their order; empty for what is a copy on the host. */
  readonly kernels: readonly string[];
}

/** What became of one case. */
export interface CaseResult {
  readonly name: string;
  readonly format: "onnx" | "torch" | "unknown";
  readonly status: "passed" | "failed" | "skipped";
  /** What a skipped case needs and Heed lacks. */
  readonly missing: readonly string[];
  /** Why a case failed, where that is no difference of numbers. */
  readonly error?: string;
  readonly outputs: readonly OutputResult[];
}

/** What became of all cases. */
export interface ConformanceReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly cases: readonly CaseResult[];
}

/** `N passed, N failed, N skipped`. */
export function closingLine({ passed, failed, skipped }: Omit<ConformanceReport, "cases">): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** One line on a case: its name and status, what is missing or how far the worst output is off. */
export function caseLine({ name, status, missing, error, outputs }: CaseResult): string {
  if (error !== undefined) return `${status} ${name}: ${error}`;
  if (status === "skipped") return `skipped ${name}: needs ${missing.join("; ")}`;
  if (status === "passed") return `passed ${name}`;
  const wrong = outputs.filter((output) => !output.ok).map(describe);
  return `failed ${name}: ${wrong.join("; ")}`;
}

function describe({ name, maxAbsoluteError, atol, rtol, worst, tier, kernels }: OutputResult): string {
  const at = worst
    ? `, worst at ${worst.index}: got ${worst.actual}, expected ${worst.expected}`
    : ", its length differs";
  return `${name} is off by ${maxAbsoluteError} (atol ${atol}, rtol ${rtol}${at}; tier ${tier}, ${kernels.join(" → ")})`;
}
