import type { Tensor as OnnxTensor } from "onnxruntime-node";
import { closeSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readTestCheckpoint } from "../../support/safetensors.ts";
import { type BenchModel, embed, type PeerSteps } from "./contender.ts";
import { encodeOnnx, type OnnxConstant, type OnnxGraph, type OnnxNode } from "./onnx_file.ts";

/** How onnxruntime runs the graph. `optimise`: its graph optimisations, which fuse; their results are checked too. */
export interface OnnxOptions {
  readonly provider: "webgpu" | "cpu";
  readonly optimise: "all" | "basic" | "disabled";
}

/**
 * GPT-2 in onnxruntime-node: a plain graph over the checkpoint's own bytes, with the keys and values of the past as
 * inputs and outputs that stay on the GPU. Output matrix in two halves, as one exceeds a binding; logits of the last row.
 */
export async function onnxSteps(model: BenchModel, { provider, optimise }: OnnxOptions): Promise<PeerSteps> {
  const ort = await import("onnxruntime-node");
  const { layers, width, heads, vocab } = model;
  const D = width / heads;
  const file = join(model.folder, "gpt2.onnx");
  writeFileSync(file, encodeOnnx(gpt2Graph(model)));
  const { tensors } = readTestCheckpoint(model.folder);
  const names = Array.from({ length: layers }, (_, i) => [`key.${i}`, `value.${i}`]).flat();
  const onGpu = provider === "webgpu" ? "gpu-buffer" : "cpu";
  const session = await ort.InferenceSession.create(file, {
    executionProviders: [provider],
    graphOptimizationLevel: optimise,
    preferredOutputLocation: {
      ...Object.fromEntries(names.map((n) => [`present.${n}`, onGpu])),
      logits0: "cpu",
      logits1: "cpu",
    },
  });
  const empty = () =>
    new Map<string, OnnxTensor>(names.map((n) => [n, new ort.Tensor("float32", new Float32Array(0), [heads, 0, D])]));
  let past = empty();
  let position = 0;
  return {
    name: `onnxruntime-node ${provider} ${optimise}`,
    reset() {
      for (const t of past.values()) t.dispose();
      past = empty();
      position = 0;
    },
    async append(ids) {
      const T = ids.length;
      const S = position + T;
      const mask = Float32Array.from({ length: T * S }, (_, i) => (i % S <= position + Math.floor(i / S) ? 0 : -1e9));
      const feeds = {
        x: new ort.Tensor("float32", embed(tensors, ids, position, width), [T, width]),
        mask: new ort.Tensor("float32", mask, [T, S]),
        ...Object.fromEntries(names.map((n) => [`past.${n}`, past.get(n)!])),
      };
      const results = await session.run(feeds);
      for (const t of past.values()) t.dispose();
      past = new Map(names.map((n) => [n, results[`present.${n}`]!]));
      position = S;
      const [a, b] = [results["logits0"]!.data as Float32Array, results["logits1"]!.data as Float32Array];
      const logits = new Float32Array(vocab);
      logits.set(a);
      logits.set(b, a.length);
      return logits;
    },
    async dispose() {
      for (const t of past.values()) t.dispose();
      await session.release();
    },
  };
}

function gpt2Graph(model: BenchModel): OnnxGraph {
  const { layers, width, heads, vocab, normEps } = model;
  const D = width / heads;
  const nodes: OnnxNode[] = [];
  const add = (op: string, inputs: string[], output: string, attributes?: OnnxNode["attributes"]): string => {
    nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  };
  const norm = (x: string, name: string, output: string) =>
    add("LayerNormalization", [x, `${name}.weight`, `${name}.bias`], output, { axis: -1n, epsilon: normEps });
  const project = (x: string, name: string) =>
    add("Add", [add("MatMul", [x, `${name}.weight`], `${name}.product`), `${name}.bias`], `${name}.out`);
  let x = "x"; // [T, C]
  for (let i = 0; i < layers; i++) {
    const at = `h.${i}`;
    const qkv = project(norm(x, `${at}.ln_1`, `${at}.normed`), `${at}.attn.c_attn`);
    const parts = ["q", "k", "v"].map((p) => `${at}.${p}`);
    nodes.push({ op: "Split", inputs: [qkv], outputs: parts, attributes: { axis: 1n, num_outputs: 3n } });
    // [T, C] → [H, T, D]
    const [q, k, v] = parts.map((p) =>
      add("Transpose", [add("Reshape", [p, "to_heads"], `${p}.heads`)], `${p}.turned`, { perm: [1n, 0n, 2n] }),
    ) as [string, string, string];
    const keys = add("Concat", [`past.key.${i}`, k], `present.key.${i}`, { axis: 1n });
    const values = add("Concat", [`past.value.${i}`, v], `present.value.${i}`, { axis: 1n });
    const scores = add("MatMul", [q, add("Transpose", [keys], `${at}.kt`, { perm: [0n, 2n, 1n] })], `${at}.scores`);
    const masked = add("Add", [add("Div", [scores, "root"], `${at}.scaled`), "mask"], `${at}.masked`);
    const mixed = add("MatMul", [add("Softmax", [masked], `${at}.probs`, { axis: -1n }), values], `${at}.mixed`);
    const rows = add(
      "Reshape",
      [add("Transpose", [mixed], `${at}.rows`, { perm: [1n, 0n, 2n] }), "to_rows"],
      `${at}.joined`,
    );
    const middle = add("Add", [x, project(rows, `${at}.attn.c_proj`)], `${at}.middle`);
    const up = add("Gelu", [project(norm(middle, `${at}.ln_2`, `${at}.normed2`), `${at}.mlp.c_fc`)], `${at}.active`, {
      approximate: "tanh",
    });
    x = add("Add", [middle, project(up, `${at}.mlp.c_proj`)], `${at}.output`);
  }
  const last = norm(add("Slice", [x, "minus_one", "end", "zero"], "last"), "ln_f", "normed");
  // As exporters write a tied head: the transposes are folded when the session is made.
  for (const half of [0, 1])
    add("MatMul", [last, add("Transpose", [`wte${half}`], `head${half}`, { perm: [1n, 0n] })], `logits${half}`);
  // √D from an integer constant: the file needs no float data of its own.
  nodes.unshift(
    { op: "Cast", inputs: ["head_size_int"], outputs: ["head_size"], attributes: { to: 1n } },
    { op: "Sqrt", inputs: ["head_size"], outputs: ["root"] },
  );
  const ports = (direction: string, length: string) =>
    Array.from({ length: layers }, (_, i) =>
      ["key", "value"].map((n) => ({ name: `${direction}.${n}.${i}`, shape: [heads, length, D] })),
    ).flat();
  const halfRows = Math.ceil(vocab / 2);
  return {
    nodes,
    constants: [
      ...weightConstants(model),
      { name: "to_heads", ints: [0n, BigInt(heads), BigInt(D)] },
      { name: "to_rows", ints: [0n, BigInt(width)] },
      { name: "head_size_int", ints: [BigInt(D)] },
      { name: "minus_one", ints: [-1n] },
      { name: "end", ints: [1n << 40n] },
      { name: "zero", ints: [0n] },
    ],
    inputs: [{ name: "x", shape: ["T", width] }, { name: "mask", shape: ["T", "S"] }, ...ports("past", "P")],
    outputs: [
      { name: "logits0", shape: [1, halfRows] },
      { name: "logits1", shape: [1, vocab - halfRows] },
      ...ports("present", "S"),
    ],
  };
}

/** The checkpoint's tensors where they lie in its file. */
function weightConstants({ folder, vocab, width }: BenchModel): OnnxConstant[] {
  const { header, dataStart } = readHeader(join(folder, "model.safetensors"));
  const constant = (name: string, shape: readonly number[], start: number): OnnxConstant => {
    const sizeBytes = 4 * shape.reduce((a, b) => a * b, 1);
    return { name, shape, file: "model.safetensors", offset: dataStart + start, sizeBytes };
  };
  const half = Math.ceil(vocab / 2);
  return Object.entries(header).flatMap(([name, { shape, data_offsets }]) => {
    if (name === "wpe.weight") return [];
    if (name !== "wte.weight") return [constant(name, shape, data_offsets[0])];
    return [
      constant("wte0", [half, width], data_offsets[0]),
      constant("wte1", [vocab - half, width], data_offsets[0] + half * width * 4),
    ];
  });
}

type Header = Record<string, { readonly shape: readonly number[]; readonly data_offsets: readonly [number, number] }>;

function readHeader(path: string): { header: Header; dataStart: number } {
  const file = openSync(path, "r");
  try {
    const size = Buffer.alloc(8);
    readSync(file, size, 0, 8, 0);
    const length = Number(size.readBigUInt64LE());
    const text = Buffer.alloc(length);
    readSync(file, text, 0, length, 8);
    const { __metadata__: _, ...header } = JSON.parse(text.toString("utf8")) as Header & { __metadata__?: unknown };
    return { header: header as Header, dataStart: 8 + length };
  } finally {
    closeSync(file);
  }
}
