import type { Shader } from "../../src/gpu/compose.ts";
import type { Device } from "../../src/gpu/device.ts";
import { attention, type AttentionOptions } from "../../src/ops/attention.ts";
import type { Inputs, OpDef, Recorder, Value } from "../../src/ops/op.ts";
import { gradientsFrom } from "../../src/program/autodiff.ts";
import type { ProgramRecorder } from "../../src/program/record.ts";
import { runOps } from "../../src/program/run_ops.ts";

const HEADS = "lib/attention_heads.wgsl";
const LOAD_K = "fn load_k(at: u32, column: u32) -> vec4<f32> {\n";
const COUNTER = "@group(0) @binding(15) var<storage, read_write> visits: array<atomic<u32>>;\n";

/** The part of every kernel on dense heads through which keys are read, counting what is read. */
function counting(part: Shader): Shader {
  if (part.file !== HEADS) return part;
  if (!part.code.includes(LOAD_K)) throw new Error(`${HEADS} has no load_k to count`);
  return {
    file: "counted_heads.wgsl",
    code: COUNTER + part.code.replace(LOAD_K, `${LOAD_K}  atomicAdd(&visits[0], 1u);\n`),
  };
}

/** The same op, whose kernels count the vec4s of keys that they load. */
function counted<A>(op: OpDef<A>, visits: Value): OpDef<A> {
  return {
    ...op,
    lower(node, context) {
      op.lower(node, {
        ...context,
        dispatch(dispatch) {
          const parts = dispatch.kernel.parts?.map(counting) ?? [];
          const reads = parts.some((part) => part.file === "counted_heads.wgsl");
          context.dispatch(
            reads
              ? { ...dispatch, kernel: { ...dispatch.kernel, parts }, bindings: { ...dispatch.bindings, visits } }
              : dispatch,
          );
        },
      });
    },
    writes: [...(op.writes ?? []), "visits"],
  };
}

/** A recorder that counts in the ops called `names` alone. */
function countingRecorder(rec: ProgramRecorder, visits: Value, names: readonly string[]): ProgramRecorder {
  const record = rec.record.bind(rec);
  rec.record = <A>(op: OpDef<A>, inputs: Inputs, attrs: A) =>
    names.includes(op.name) ? record(counted(op, visits), { ...inputs, visits }, attrs) : record(op, inputs, attrs);
  return rec;
}

/** The vec4s of keys that the kernels of one call load, forward or backward. */
export async function countKeyLoads(
  device: Device,
  direction: "forward" | "backward",
  options: AttentionOptions,
): Promise<number> {
  const { batch = 1, heads, kvHeads, queryLength, keyLength, headDim } = options;
  const tensor = (count: number, length: number) => ({
    shape: [batch, count, length, headDim],
    data: new Float32Array(batch * count * length * headDim).fill(0.125),
  });
  const result = await runOps(
    device,
    {
      q: tensor(heads, queryLength),
      k: tensor(kvHeads, keyLength),
      v: tensor(kvHeads, keyLength),
      dout: tensor(heads, queryLength),
      visits: { shape: [1], data: new Uint32Array(1), kind: "state" },
    },
    (rec, { q, k, v, dout, visits }): Record<string, Value> => {
      const names = [direction === "forward" ? "attention" : "attentionBackward"];
      const counting: Recorder = countingRecorder(rec, visits, names);
      const { out } = attention(counting, { q, k, v }, { ...options, keep: "lse" });
      if (direction === "forward") return { out, visits };
      const [dq, dk, dv] = gradientsFrom(rec, new Map([[out, dout]]), [q, k, v]);
      return { dq: dq as Value, dk: dk as Value, dv: dv as Value, visits };
    },
  );
  return (result["visits"] as Uint32Array)[0] as number;
}
