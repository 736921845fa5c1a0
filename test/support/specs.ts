import type { Device } from "../../src/gpu/device.ts";
import type { Value } from "../../src/ops/op.ts";
import type { ProgramRecorder } from "../../src/program/record.ts";
import { type HostArray, type HostTensor, runOps } from "../../src/program/run_ops.ts";
import { assertClose, type CloseOptions } from "./close.ts";
import { createRandom, type Random } from "./random.ts";

/** What an output has to be. */
export interface Expected {
  readonly values: ArrayLike<number>;
  readonly close: Omit<CloseOptions, "label">;
  /** Reads numbers out of what came back, such as f16 from its bits; default as they are. */
  readonly read?: (data: HostArray) => ArrayLike<number>;
}

/** One call of an op with its inputs and what is expected of it. */
export interface OpSpec {
  readonly label: string;
  readonly inputs: Readonly<Record<string, HostTensor>>;
  record(rec: ProgramRecorder, values: Record<string, Value>): Record<string, Value>;
  readonly expected: Readonly<Record<string, Expected>>;
}

/** Runs all specs in one Program, so that many shapes cost one submission, and compares every output. */
export async function checkSpecs(device: Device, specs: readonly OpSpec[]): Promise<void> {
  const inputs: Record<string, HostTensor> = {};
  specs.forEach((spec, i) => {
    for (const [name, tensor] of Object.entries(spec.inputs)) inputs[`${i}.${name}`] = tensor;
  });
  const got = await runOps(
    device,
    inputs,
    (rec, values) => {
      const outputs: Record<string, Value> = {};
      specs.forEach((spec, i) => {
        const own = Object.keys(spec.inputs).map((name) => [name, values[`${i}.${name}`] as Value]);
        for (const [name, value] of Object.entries(spec.record(rec, Object.fromEntries(own)))) {
          outputs[`${i}.${name}`] = value;
        }
      });
      return outputs;
    },
    { fuse: false },
  );
  specs.forEach((spec, i) => {
    for (const [name, { values, close, read }] of Object.entries(spec.expected)) {
      const data = got[`${i}.${name}`] as HostArray;
      assertClose(read ? read(data) : data, values, { ...close, label: `${name} of ${spec.label}` });
    }
  });
}

/** Specs drawn from a seed; a failure's label names the seed and the draw. */
export function drawSpecs(seed: number, count: number, draw: (random: Random) => OpSpec): OpSpec[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, (_, i) => {
    const spec = draw(random);
    return { ...spec, label: `${spec.label}, draw ${i} of seed ${seed}` };
  });
}
