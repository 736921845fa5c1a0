import type { InferenceSession, Tensor as OnnxTensor } from "onnxruntime-node";
import { encodeOnnx, type OnnxGraph, type OnnxNode } from "../gpt2/onnx_file.ts";
import { type BenchData, type BenchShape, type Contender, exchangeHeads, type Runner } from "./contender.ts";

/**
 * onnxruntime-node's WebGPU provider. "graph": MatMul, Softmax, MatMul, keys given transposed, which costs it nothing, and
 * query heads that share a key head as rows of one product; "fused": its MultiHeadAttention, for as many key heads as heads.
 * Inputs stay on the GPU. It has no gradients.
 */
export async function onnxContender(form: "graph" | "fused"): Promise<Contender> {
  const ort = await import("onnxruntime-node");
  const open = (graph: OnnxGraph, onGpu: boolean): Promise<InferenceSession> =>
    ort.InferenceSession.create(encodeOnnx(graph), {
      executionProviders: ["webgpu"],
      graphOptimizationLevel: "all",
      preferredOutputLocation: Object.fromEntries(graph.outputs.map((o) => [o.name, onGpu ? "gpu-buffer" : "cpu"])),
    });

  // Tensors on the GPU are made by a graph that hands its input on.
  const upload = async (x: Float32Array, shape: readonly number[]): Promise<OnnxTensor> => {
    const ports = (name: string) => [{ name, shape }];
    const nodes: OnnxNode[] = [{ op: "Neg", inputs: ["x"], outputs: ["y"] }];
    const session = await open({ nodes, constants: [], inputs: ports("x"), outputs: ports("y") }, true);
    const { y } = await session.run({
      x: new ort.Tensor(
        "float32",
        x.map((n) => -n),
        shape,
      ),
    });
    return y as OnnxTensor;
  };

  const prepare = async (shape: BenchShape, data: BenchData): Promise<Runner | undefined> => {
    if (shape.window !== undefined || shape.backward) return undefined;
    if (shape.H !== shape.Hkv && (form === "fused" || (shape.causal && shape.T > 1))) return undefined;
    const { graph, feeds } = form === "graph" ? plainGraph(shape, data) : fusedGraph(shape, data);
    const session = await open(graph, false);
    const onGpu: Record<string, OnnxTensor> = {};
    for (const [name, x] of Object.entries(feeds)) {
      onGpu[name] = await upload(x, graph.inputs.find((i) => i.name === name)!.shape as readonly number[]);
    }
    return {
      layout: form === "graph" ? "bhtd" : "bthd",
      async run() {
        const { out } = await session.run(onGpu);
        return [out!.data as Float32Array];
      },
      // Its process crashes when a session is released while others live: all end with the process.
      dispose() {},
    };
  };
  return { name: form === "graph" ? "onnxruntime 1.30.0" : "onnxruntime fused", prepare, dispose() {} };
}

interface Prepared {
  readonly graph: OnnxGraph;
  /** By input. */
  readonly feeds: Readonly<Record<string, Float32Array>>;
}

function plainGraph({ B, H, Hkv, T, S, D, causal }: BenchShape, { q, k, v }: BenchData): Prepared {
  const rows = (H / Hkv) * T;
  const isMasked = causal && T > 1;
  const scale = 1 / Math.sqrt(D);
  const kt = new Float32Array(k.length);
  for (let head = 0; head < B * Hkv; head++) {
    for (let s = 0; s < S; s++) for (let d = 0; d < D; d++) kt[(head * D + d) * S + s] = k[(head * S + s) * D + d]!;
  }
  const nodes: OnnxNode[] = [{ op: "MatMul", inputs: ["q", "kt"], outputs: ["scores"] }];
  if (isMasked) nodes.push({ op: "Add", inputs: ["scores", "mask"], outputs: ["masked"] });
  nodes.push(
    { op: "Softmax", inputs: [isMasked ? "masked" : "scores"], outputs: ["probs"], attributes: { axis: -1n } },
    { op: "MatMul", inputs: ["probs", "v"], outputs: ["out"] },
  );
  const mask = Float32Array.from({ length: T * S }, (_, i) => (i % S <= Math.floor(i / S) + S - T ? 0 : -1e30));
  return {
    graph: {
      nodes,
      constants: [],
      inputs: [
        { name: "q", shape: [B, Hkv, rows, D] },
        { name: "kt", shape: [B, Hkv, D, S] },
        { name: "v", shape: [B, Hkv, S, D] },
        ...(isMasked ? [{ name: "mask", shape: [1, 1, T, S] }] : []),
      ],
      outputs: [{ name: "out", shape: [B, Hkv, rows, D] }],
    },
    // Scaled beforehand, which costs it nothing either.
    feeds: { q: q.map((x) => x * scale), kt, v, ...(isMasked ? { mask } : {}) },
  };
}

function fusedGraph({ B, H, T, S, D, causal }: BenchShape, data: BenchData): Prepared {
  const turn = (x: Float32Array, length: number) => exchangeHeads(x, B, H, length, D);
  const attributes = { num_heads: BigInt(H), unidirectional: causal && T > 1 ? 1n : 0n };
  return {
    graph: {
      nodes: [
        { op: "MultiHeadAttention", domain: "com.microsoft", inputs: ["q", "k", "v"], outputs: ["out"], attributes },
      ],
      constants: [],
      inputs: [
        { name: "q", shape: [B, T, H * D] },
        { name: "k", shape: [B, S, H * D] },
        { name: "v", shape: [B, S, H * D] },
      ],
      outputs: [{ name: "out", shape: [B, T, H * D] }],
    },
    feeds: { q: turn(data.q, T), k: turn(data.k, S), v: turn(data.v, S) },
  };
}
