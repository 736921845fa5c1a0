import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Value } from "../ops/op.ts";
import type { Batch } from "./objective.ts";
import type { TrainingStep } from "./training_step.ts";

/** Where numbers are not finite for the first time: a parameter itself, a value of the forward pass, or a parameter's gradient; or the norm alone. */
interface NotFinite {
  readonly kind: "parameter" | "value" | "gradient" | "norm";
  /** The parameter's, or such as `block.3.attention.scores`; of a norm the parameter whose gradient is largest. */
  readonly name: string;
}

/**
 * Where the first number of a step on `batches` is that is not finite: parameters first, frozen ones of f32 among them, then values in the order of the forward pass, then
 * gradients in the order of backward, whose squares may be too large where they are not. Throws `OUT_OF_MEMORY` and `LIMIT`, as it keeps
 * every value.
 */
export async function firstNotFinite(step: TrainingStep, batches: readonly Batch[]): Promise<NotFinite> {
  for (const { name, tensor } of step.optimizer.parameters) {
    if (hasNotFinite(await tensor.read())) return { kind: "parameter", name };
  }
  for (const batch of batches) {
    const found = await firstOfForward(step, batch);
    if (found) return found;
  }
  let largest = { name: "", size: -1 };
  for (const part of batches.keys()) {
    const found = await largestGradient(step, batches, part);
    if (found.size === Number.POSITIVE_INFINITY) return { kind: "gradient", name: found.name };
    if (found.size > largest.size) largest = found;
  }
  return { kind: "norm", name: largest.name };
}

async function firstOfForward(step: TrainingStep, batch: Batch): Promise<NotFinite | undefined> {
  const named: Value[] = [];
  const rec = new ProgramRecorder("diagnosis", (value) => {
    if (value.kind === "intermediate" && !value.view && value.dtype === "f32") named.push(value);
    return value;
  });
  step.recordForward(rec, batch.shape, false);
  const read = rec.nodes.flatMap(({ inputs }) => Object.values(inputs));
  for (const frozen of new Set(read)) {
    if (frozen?.kind !== "weight" || frozen.dtype !== "f32" || !frozen.tensor) continue;
    if (hasNotFinite(await frozen.tensor.read())) return { kind: "parameter", name: frozen.name };
  }
  for (const value of named) rec.output(value.name, value);
  const planned = await plan(step.device, rec);
  try {
    step.writeFixed(planned, batch.shape);
    for (const [name, data] of Object.entries(batch.inputs)) planned.write(name, data);
    await planned.run();
    for (const { name } of named) if (hasNotFinite(await planned.readOutput(name))) return { kind: "value", name };
    return undefined;
  } finally {
    planned.dispose();
  }
}

/** The parameter whose gradient has the largest element; infinite for the first that is not finite: backward comes to the last layers first. */
async function largestGradient(
  step: TrainingStep,
  batches: readonly Batch[],
  part: number,
): Promise<{ readonly name: string; readonly size: number }> {
  const { shape } = batches[part] as Batch;
  const rec = new ProgramRecorder("diagnosis of gradients");
  const { grads } = step.recordGradients(rec, shape);
  const made = new Map(rec.nodes.flatMap(({ outputs }, at) => outputs.map((value) => [value, at] as const)));
  const parameters = step.optimizer.parameters.map(({ name }, i) => ({ name, grad: grads[i] as Value }));
  parameters.sort((a, b) => (made.get(a.grad) ?? 0) - (made.get(b.grad) ?? 0));
  for (const { name, grad } of parameters) rec.output(`gradient of ${name}`, grad);
  const planned = await plan(step.device, rec);
  try {
    step.writePart(planned, batches, part);
    await planned.run();
    let largest = { name: "", size: -1 };
    for (const { name } of parameters) {
      const data = await planned.readOutput(`gradient of ${name}`);
      if (hasNotFinite(data)) return { name, size: Number.POSITIVE_INFINITY };
      const size = new Float32Array(data).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      if (size > largest.size) largest = { name, size };
    }
    return largest;
  } finally {
    planned.dispose();
  }
}

function hasNotFinite(data: ArrayBuffer): boolean {
  return new Float32Array(data).some((x) => !Number.isFinite(x));
}
