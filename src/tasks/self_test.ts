import { HeedError, throwIfAborted } from "../core/errors.ts";
import type { AdapterFacts, Device } from "../gpu/device.ts";
import type { Tier } from "../gpu/tiers.ts";
import { runOps } from "../program/run_ops.ts";
import { selfTestCases } from "./self_test_cases.ts";
import type { SelfTestCase } from "./self_test_numbers.ts";

/** What the self test says of one kernel variant. */
export interface VariantResult {
  /** The kernel and how it is specialised. */
  readonly variant: string;
  /** False if it gave a wrong result, and was taken out of use. */
  readonly ok: boolean;
  /** The cases that ran it. */
  readonly cases: readonly string[];
  /** What was wrong. */
  readonly error?: string;
}

/** What the self test found. */
export interface SelfTestReport {
  /** True if every variant was right. */
  readonly ok: boolean;
  readonly adapter: AdapterFacts;
  readonly tier: Tier;
  readonly variants: readonly VariantResult[];
  /** Cases that no kernel computes rightly, each with its reason: their op throws `UNSUPPORTED`. */
  readonly unusable: readonly { readonly name: string; readonly error: string }[];
}

/** How the self test runs. */
export interface SelfTestOptions {
  /** Run the cases alone whose name contains this; default all. */
  readonly filter?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Largest errors of the cases, whose numbers are in [−1, 1] and whose sums have at most 160 terms; f16 inputs are exact. */
const ATOL = 1e-4;
const RTOL = 1e-3;

/** Times that a case is tried again with other kernels: as many as there are kinds of devices to choose them for. */
const MAX_TRIES = 8;

interface Outcome {
  readonly kernels: readonly string[];
  readonly error?: string;
}

/**
 * Runs small golden cases against the float64 reference on this device and takes each kernel variant that gives a wrong result out of
 * use: its op falls back to another variant where there is one, and throws `UNSUPPORTED` naming it where there is none. Plans
 * that hold such a variant stop working: run this before models are loaded. Throws `ABORTED` and `DEVICE_LOST`.
 */
export async function selfTest(device: Device, options: SelfTestOptions = {}): Promise<SelfTestReport> {
  const results = new Map<string, { ok: boolean; cases: string[]; error?: string }>();
  const unusable: { name: string; error: string }[] = [];
  const proven = new Set<string>();
  const failed: SelfTestCase[] = [];
  const { filter = "" } = options;
  const cases = selfTestCases().filter(({ name }) => name.includes(filter));
  const note = (name: string, { kernels, error }: Outcome) => {
    for (const kernel of kernels) {
      const entry = results.get(kernel) ?? { ok: true, cases: [] };
      results.set(kernel, entry);
      if (!entry.cases.includes(name)) entry.cases.push(name);
      if (error === undefined) proven.add(kernel);
    }
  };
  for (const [i, test] of cases.entries()) {
    throwIfAborted(options.signal, "self test");
    const outcome = await attempt(device, test);
    note(test.name, outcome);
    if (outcome.error !== undefined) failed.push(test);
    options.onProgress?.(i + 1, cases.length);
  }
  // Only now is it known which kernels other cases have shown right.
  for (const test of failed) {
    for (let tries = 0; ; tries++) {
      throwIfAborted(options.signal, "self test");
      const outcome = await attempt(device, test);
      note(test.name, outcome);
      if (outcome.error === undefined) break;
      const suspects = outcome.kernels.filter((kernel) => !proven.has(kernel));
      if (outcome.kernels.length === 0 || tries === MAX_TRIES) {
        unusable.push({ name: test.name, error: outcome.error });
        break;
      }
      for (const kernel of suspects.length > 0 ? suspects : outcome.kernels) {
        device.refuse(kernel);
        Object.assign(results.get(kernel) as object, { ok: false, error: `${test.name}: ${outcome.error}` });
      }
    }
  }
  const variants = [...results].map(([variant, result]) => ({ variant, ...result }));
  const ok = unusable.length === 0 && variants.every((v) => v.ok);
  return { ok, adapter: device.adapter, tier: device.facts.tier, variants, unusable };
}

/** Runs a case once. What is no fault of a kernel is thrown. */
async function attempt(device: Device, test: SelfTestCase): Promise<Outcome> {
  let kernels: readonly string[] = [];
  const onKernels = (ran: readonly string[]) => {
    kernels = [...new Set(ran)];
  };
  try {
    const got = await runOps(device, test.inputs, (rec, values) => test.record(rec, values), {
      fuse: test.fuse ?? false,
      onKernels,
    });
    const expected = test.expected();
    for (const [name, words] of Object.entries(got)) {
      const actual = test.read ? test.read(words) : words;
      const error = differenceOf(actual, expected[name] ?? []);
      if (error) return { kernels, error: `${name} ${error}` };
    }
    return { kernels };
  } catch (error) {
    if (!(error instanceof HeedError) || error.code === "DEVICE_LOST" || error.code === "DISPOSED") throw error;
    // A kernel that does not compile never reached the plan.
    const broken = /^kernel (.*) does not compile:/.exec(error.message)?.[1];
    return { kernels: broken === undefined ? kernels : [broken], error: error.message };
  }
}

function differenceOf(actual: ArrayLike<number>, expected: ArrayLike<number>): string | undefined {
  if (actual.length !== expected.length) return `has ${actual.length} values, expected ${expected.length}`;
  for (let i = 0; i < actual.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (a === e || Math.abs(a - e) <= ATOL + RTOL * Math.abs(e)) continue;
    return `[${i}] is ${a}, expected ${e}`;
  }
  return undefined;
}
