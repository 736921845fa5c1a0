import { HeedError, isHeedError, throwIfAborted } from "../core/errors.ts";
import type { ArrayTensor } from "../program/direct.ts";
import type { DirectOps } from "../tasks/direct_ops.ts";
import type { CallOptions } from "../tasks/direct_options.ts";
import { type CaseTensor, toF32 } from "./arrays.ts";
import { compare, type Precision, type Tolerance, toleranceOf } from "./compare.ts";
import { isOnnxCase, runOnnxCase } from "./onnx.ts";
import type { CaseResult, ConformanceReport, OutputResult } from "./report.ts";
import { isTorchCase, runTorchCase } from "./torch.ts";

export { type CaseResult, caseLine, type ConformanceReport, closingLine, type OutputResult } from "./report.ts";

/** A file with a case, wherever it is: a folder in Node, a server or chosen files in a page. */
export interface CaseFile {
  /** Path or name; messages and the filter use it. */
  readonly name: string;
  text(): Promise<string>;
}

/** How the suite runs. */
export interface ConformanceOptions {
  /** Runs the cases alone whose name contains this. */
  readonly filter?: string;
  readonly signal?: AbortSignal;
  /** Told of each case when it is done. */
  readonly onCase?: (result: CaseResult, done: number, total: number) => void;
}

/** What an output is compared with, and how. */
export interface Check {
  readonly name: string;
  readonly actual: ArrayTensor;
  readonly expected: CaseTensor;
  readonly precision: Precision;
  readonly kernels: readonly string[];
  /** The least absolute tolerance, for inputs whose size makes larger errors. */
  readonly slack?: number;
  /** In place of the published one. */
  readonly tolerance?: Tolerance;
}

/** What a case's format gets to run it: the ops, and where results go. */
export class CaseRun {
  readonly engine: DirectOps;
  readonly outputs: OutputResult[] = [];
  readonly missing: string[] = [];
  /** dtypes of the case's arrays. */
  dtypes: readonly string[] = [];
  readonly signal: AbortSignal | undefined;

  constructor(engine: DirectOps, signal?: AbortSignal) {
    this.engine = engine;
    this.signal = signal;
  }

  /** Makes a call and tells the kernels that it ran. */
  async call<T>(make: (options: CallOptions) => Promise<T>): Promise<{ result: T; kernels: readonly string[] }> {
    let kernels: readonly string[] = [];
    const onKernels = (ran: readonly string[]) => {
      kernels = [...kernels, ...ran];
    };
    const result = await make({ signal: this.signal, onKernels });
    return { result, kernels };
  }

  /** Does a part of a case; what Heed lacks for it is noted, and the rest of the case goes on. */
  async part(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      if (!isHeedError(error, "UNSUPPORTED")) throw error;
      if (!this.missing.includes(error.message)) this.missing.push(error.message);
    }
  }

  /** Compares an output. */
  check({ name, actual, expected, precision, kernels, slack, tolerance: given }: Check): void {
    const numbers = toF32(expected).data;
    const tolerance = given ?? toleranceOf(precision, this.dtypes, numbers, slack);
    const compared = compare(toF32(actual).data, numbers, tolerance);
    this.outputs.push({ name, ...compared, ...tolerance, tier: this.engine.device.facts.tier, kernels });
  }
}

/**
 * Runs every case of `files` on an engine, in either format of test vectors: nodes of ONNX with their inputs and outputs, or ops of
 * PyTorch with gradients. A case that needs what Heed lacks is skipped, and says what. Throws `ABORTED`.
 *
 * @example
 * const report = await runConformance(engine, [{ name: "a.json", text: () => file.text() }]);
 */
export async function runConformance(
  engine: DirectOps,
  files: readonly CaseFile[],
  options: ConformanceOptions = {},
): Promise<ConformanceReport> {
  const { filter = "", signal, onCase } = options;
  const chosen = files.filter(({ name }) => name.includes(filter));
  const cases: CaseResult[] = [];
  for (const file of chosen) {
    throwIfAborted(signal, "conformance");
    const result = await runFile(engine, file, signal);
    cases.push(result);
    onCase?.(result, cases.length, chosen.length);
  }
  const count = (status: CaseResult["status"]) => cases.filter((c) => c.status === status).length;
  return { passed: count("passed"), failed: count("failed"), skipped: count("skipped"), cases };
}

async function runFile(engine: DirectOps, file: CaseFile, signal: AbortSignal | undefined): Promise<CaseResult> {
  const run = new CaseRun(engine, signal);
  const name = file.name.replace(/\.json$/i, "");
  let format: CaseResult["format"] = "unknown";
  let error: string | undefined;
  try {
    const content: unknown = parse(await file.text());
    if (isOnnxCase(content)) {
      format = "onnx";
      await run.part(() => runOnnxCase(run, content));
    } else if (isTorchCase(content)) {
      format = "torch";
      await run.part(() => runTorchCase(run, content, name));
    } else {
      run.missing.push("a case of ONNX (nodes, inputs, outputs) or of PyTorch (options, inputs, outputs)");
    }
  } catch (thrown) {
    if (isHeedError(thrown, "ABORTED") || isHeedError(thrown, "DEVICE_LOST")) throw thrown;
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  if (error === undefined && run.outputs.length === 0 && run.missing.length === 0) {
    run.missing.push("an output that Heed computes");
  }
  const failed = error !== undefined || run.outputs.some((output) => !output.ok);
  const status = failed ? "failed" : run.missing.length > 0 ? "skipped" : "passed";
  return { name, format, status, missing: run.missing, error, outputs: run.outputs };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HeedError("BAD_FILE", "conformance: a case must be JSON.", { cause });
  }
}
