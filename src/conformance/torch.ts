import { HeedError } from "../core/errors.ts";
import type { Value } from "../ops/op.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { ArrayTensor } from "../program/direct.ts";
import type { ProgramRecorder } from "../program/record.ts";
import { type CaseTensor, decodeArray, type FileArray, isFileArray, rowsOf } from "./arrays.ts";
import type { CaseRun } from "./run.ts";
import { torchAttention } from "./torch_attention.ts";
import { torchOp } from "./torch_ops.ts";
import { isTraining, torchTraining } from "./torch_training.ts";

/** A file of `torch/`: options, named inputs, and named outputs with their gradients. */
interface TorchCase {
  readonly case?: string;
  readonly doc?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, FileArray>>;
  readonly outputs: Readonly<Record<string, FileArray>>;
}

/** A case with its arrays decoded. */
export interface TorchCall {
  /** Lower case; says which function and form, where shapes do not. */
  readonly name: string;
  readonly doc: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, CaseTensor>>;
  readonly outputs: Readonly<Record<string, CaseTensor>>;
  /** An input by name. Throws `BAD_FILE` without it. */
  input(name: string): CaseTensor;
  /** A numeric option. Throws `BAD_FILE` if it is something else; null is as if it were not there. */
  number(name: string): number | undefined;
}

/** An op of a case as it is recorded: what is bound, and the outputs that gradients are taken of. */
export interface RecordedOp {
  readonly op: string;
  readonly inputs: Readonly<Record<string, ArrayTensor>>;
  /** The plan is kept by them. */
  readonly attrs?: unknown;
  /** Names of inputs that have gradients, and what the case calls those: `{x: "dx"}`. */
  readonly gradients: Readonly<Record<string, string>>;
  record(rec: ProgramRecorder, values: Readonly<Record<string, Value>>): Readonly<Record<string, Value>>;
  /** The output that `dout`, or 1 without one, is the gradient of. Default `out`. */
  readonly seeded?: string;
}

/** True if a file's content is a case of PyTorch. */
export function isTorchCase(content: unknown): content is TorchCase {
  const { inputs, outputs } = (content ?? {}) as Partial<Record<keyof TorchCase, unknown>>;
  return [inputs, outputs].every(
    (arrays) =>
      typeof arrays === "object" &&
      arrays !== null &&
      !Array.isArray(arrays) &&
      Object.values(arrays).every((item) => isFileArray(item)),
  );
}

/** Runs a case and compares its outputs and gradients. */
export async function runTorchCase(run: CaseRun, content: TorchCase, file: string): Promise<void> {
  const call = callOf(content, file);
  run.dtypes = [...Object.values(content.inputs), ...Object.values(content.outputs)].map((array) => array.dtype);
  if (isTraining(call)) await torchTraining(run, call);
  else if (call.inputs["q"] && call.inputs["k"] && call.inputs["v"]) await torchAttention(run, call);
  else await runRecorded(run, call, torchOp(call));
  const compared = new Set(run.outputs.map(({ name }) => name.replace(/ \(.*$/, "")));
  for (const name of Object.keys(call.outputs)) {
    if (!compared.has(name) && run.missing.length === 0) run.missing.push(`the output ${name}`);
  }
}

/** Forward first, so that it is compared where there is no gradient; then both in one Program. */
async function runRecorded(run: CaseRun, call: TorchCall, op: RecordedOp): Promise<void> {
  await run.part(() => runForward(run, call, op));
  const wanted = Object.entries(op.gradients).filter(([, name]) => call.outputs[name]);
  if (wanted.length > 0) await run.part(() => runBackward(run, call, op, wanted));
}

async function runForward(run: CaseRun, call: TorchCall, op: RecordedOp): Promise<void> {
  const { result, kernels } = await run.call((how) =>
    run.engine.programs.run(
      { op: op.op, inputs: op.inputs, attrs: op.attrs, record: (rec, v) => op.record(rec, v as Record<string, Value>) },
      { ...how, as: "array" },
    ),
  );
  for (const [name, actual] of Object.entries(result)) {
    const expected = call.outputs[name];
    if (expected) run.check({ name, actual, expected, precision: "op", kernels });
  }
}

async function runBackward(
  run: CaseRun,
  call: TorchCall,
  op: RecordedOp,
  wanted: readonly (readonly [string, string])[],
): Promise<void> {
  const given = call.inputs["dout"];
  // The op's output is rows, whatever the shape in the case.
  const seed = given ? rowsOf(given) : { shape: [1], data: Float32Array.of(1) };
  const { result, kernels } = await run.call((how) =>
    run.engine.programs.run(
      {
        op: `${op.op}, backward`,
        inputs: { ...op.inputs, seed },
        attrs: [op.attrs, wanted],
        record(rec, v) {
          const values = v as Record<string, Value>;
          const out = op.record(rec, values)[op.seeded ?? "out"] as Value;
          const seeds = new Map([[out, values["seed"] as Value]]);
          const grads = gradientsFrom(
            rec,
            seeds,
            wanted.map(([name]) => values[name] as Value),
          );
          return Object.fromEntries(wanted.map(([, name], i) => [name, grads[i] as Value]));
        },
      },
      { ...how, as: "array" },
    ),
  );
  for (const [name, actual] of Object.entries(result)) {
    const expected = call.outputs[name];
    if (expected) run.check({ name, actual, expected, precision: "gradient", kernels });
  }
}

function callOf(content: TorchCase, file: string): TorchCall {
  const options = content.options ?? {};
  const decode = (arrays: Readonly<Record<string, FileArray>>) =>
    Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, decodeArray(array)]));
  const inputs = decode(content.inputs);
  return {
    name: (content.case ?? file.split("/").at(-1) ?? "").toLowerCase(),
    doc: content.doc ?? "",
    options,
    inputs,
    outputs: decode(content.outputs),
    input(name) {
      const found = inputs[name];
      if (found) return found;
      throw new HeedError(
        "BAD_FILE",
        `conformance: the case needs an input "${name}"; got ${Object.keys(inputs).join(", ")}.`,
      );
    },
    number(name) {
      const value = options[name] ?? undefined;
      if (value === undefined || typeof value === "number") return value;
      throw new HeedError("BAD_FILE", `conformance: options.${name} must be a number; got ${JSON.stringify(value)}.`);
    },
  };
}
