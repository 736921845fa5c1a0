import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Value } from "../ops/op.ts";
import type { Batch } from "./objective.ts";
import type { TrainingStep } from "./training_step.ts";

/**
 * Where the first number of a pass over `batch` is that is not finite: a parameter, else a named value of the forward pass, such as
 * `block.3.attention.scores`. Undefined where all of them are finite, so that the gradients are to blame.
 */
export async function firstNotFinite(step: TrainingStep, batch: Batch): Promise<string | undefined> {
  for (const { name, tensor } of step.optimizer.parameters) {
    if (hasNotFinite(new Float32Array(await tensor.read()))) return `the parameter ${name}`;
  }
  const named: Value[] = [];
  const rec = new ProgramRecorder("diagnosis", (value) => {
    if (value.kind === "intermediate" && !value.view && value.dtype === "f32") named.push(value);
    return value;
  });
  step.recordForward(rec, batch.shape, false);
  for (const value of named) rec.output(value.name, value);
  const planned = await plan(step.device, rec);
  try {
    step.writeFixed(planned, batch.shape);
    for (const [name, data] of Object.entries(batch.inputs)) planned.write(name, data);
    await planned.run();
    for (const { name } of named) {
      if (hasNotFinite(new Float32Array(await planned.readOutput(name)))) return name;
    }
  } finally {
    planned.dispose();
  }
  return undefined;
}

function hasNotFinite(data: Float32Array): boolean {
  return data.some((x) => !Number.isFinite(x));
}
