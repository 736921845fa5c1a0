import type { PackedFormat } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { Dims, Value } from "../ops/op.ts";
import { dtypeOf, type HostArray, toHostArray } from "./host_array.ts";
import { plan, type PlanOptions } from "./plan.ts";
import { ProgramRecorder } from "./record.ts";

export type { HostArray };

/** A host array with its shape: `Float32Array` is f32, `Uint16Array` f16 bit patterns, `Int32Array` i32, `Uint32Array` u32. */
export interface HostTensor {
  readonly shape: Shape;
  readonly data: HostArray;
  /** What the data is, where its type does not tell: a packed format. */
  readonly dtype?: PackedFormat;
  /** `weight` by default; `state` for tensors that the ops write. */
  readonly kind?: "weight" | "state";
  /** Splits the tensor into row parts of at most so many bytes, as if the binding limit were lower. */
  readonly maxPartBytes?: number;
}

/**
 * Runs a Program once on host arrays and reads its outputs back; everything it made is freed. `record` gets a value
 * for each input and returns the outputs by name; a state returned as an output is read after the run.
 */
export async function runOps<I extends Record<string, HostTensor>>(
  device: Device,
  inputs: I,
  record: (rec: ProgramRecorder, values: { [K in keyof I]: Value }) => Record<string, Value>,
  options: PlanOptions & { readonly dims?: Dims; readonly onKernels?: (kernels: readonly string[]) => void } = {},
): Promise<Record<string, HostArray>> {
  const tensors: Tensor[] = [];
  const rec = new ProgramRecorder("ops");
  try {
    const values = {} as { [K in keyof I]: Value };
    for (const name of Object.keys(inputs) as (keyof I & string)[]) {
      const host = inputs[name];
      invariant(host, name);
      const tensor = Tensor.from(device, name, host.shape, host.dtype ?? dtypeOf(host.data), host.data, {
        maxPartBytes: host.maxPartBytes,
      });
      tensors.push(tensor);
      values[name] = host.kind === "state" ? rec.state(tensor, name) : rec.weight(tensor, name);
    }
    const outputs = record(rec, values);
    for (const [name, value] of Object.entries(outputs)) rec.output(name, value);
    const planned = await plan(device, rec, options);
    options.onKernels?.(planned.dispatches.map((d) => d.kernel));
    try {
      await planned.run(options.dims);
      const results: Record<string, HostArray> = {};
      for (const [name, value] of Object.entries(outputs)) {
        results[name] = toHostArray(await planned.readOutput(name), value.dtype, numel(value.shape));
      }
      return results;
    } finally {
      planned.dispose();
    }
  } finally {
    for (const t of tensors) t.dispose();
  }
}
