import { bytesPerElement, type DType } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { Dims, Value } from "../ops/op.ts";
import { plan, type PlanOptions } from "./plan.ts";
import { ProgramRecorder } from "./record.ts";

/** A host array with its shape: `Float32Array` is f32, `Uint16Array` f16 bit patterns, `Int32Array` i32, `Uint32Array` u32. */
export interface HostTensor {
  readonly shape: Shape;
  readonly data: Float32Array | Uint16Array | Int32Array | Uint32Array;
  /** `weight` by default; `state` for tensors that the ops write. */
  readonly kind?: "weight" | "state";
  /** Splits the tensor into row parts of at most so many bytes, as if the binding limit were lower. */
  readonly maxPartBytes?: number;
}

/** What came back: f32 values as `Float32Array`, f16 as `Uint16Array` bit patterns, integers as they are. */
export type HostArray = Float32Array | Uint16Array | Int32Array | Uint32Array;

/**
 * Runs a Program once on host arrays and reads its outputs back; everything it made is freed. `record` gets a value
 * for each input and returns the outputs by name; a state returned as an output is read after the run.
 */
export async function runOps<I extends Record<string, HostTensor>>(
  device: Device,
  inputs: I,
  record: (rec: ProgramRecorder, values: { [K in keyof I]: Value }) => Record<string, Value>,
  options: PlanOptions & { readonly dims?: Dims } = {},
): Promise<Record<string, HostArray>> {
  const tensors: Tensor[] = [];
  const rec = new ProgramRecorder("ops");
  try {
    const values = {} as { [K in keyof I]: Value };
    for (const name of Object.keys(inputs) as (keyof I & string)[]) {
      const host = inputs[name];
      invariant(host, name);
      const tensor = Tensor.from(device, name, host.shape, dtypeOf(host.data), host.data, {
        maxPartBytes: host.maxPartBytes,
      });
      tensors.push(tensor);
      values[name] = host.kind === "state" ? rec.state(tensor, name) : rec.weight(tensor, name);
    }
    const outputs = record(rec, values);
    for (const [name, value] of Object.entries(outputs)) rec.output(name, value);
    const planned = await plan(device, rec, options);
    try {
      await planned.run(options.dims);
      const results: Record<string, HostArray> = {};
      for (const [name, value] of Object.entries(outputs)) {
        results[name] = hostArray(await planned.readOutput(name), value.dtype, numel(value.shape));
      }
      return results;
    } finally {
      planned.dispose();
    }
  } finally {
    for (const t of tensors) t.dispose();
  }
}

function dtypeOf(data: HostTensor["data"]): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "f16";
  return data instanceof Int32Array ? "i32" : "u32";
}

function hostArray(bytes: ArrayBuffer, dtype: DType, count: number): HostArray {
  const exact = bytes.slice(0, count * bytesPerElement(dtype));
  if (dtype === "f32") return new Float32Array(exact);
  if (dtype === "f16") return new Uint16Array(exact);
  return dtype === "i32" ? new Int32Array(exact) : new Uint32Array(exact);
}
