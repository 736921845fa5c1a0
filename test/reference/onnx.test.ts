import { readdirSync } from "node:fs";
import { join } from "node:path";
import { it } from "vitest";
import { activation } from "../../src/reference/activation.ts";
import { attention, type AttentionOptions } from "../../src/reference/attention.ts";
import { crossEntropy } from "../../src/reference/cross_entropy.ts";
import { layerNorm } from "../../src/reference/layer_norm.ts";
import { maskedSoftmax } from "../../src/reference/masked_softmax.ts";
import { type Broadcast, MASKED, qkScores } from "../../src/reference/qk_scores.ts";
import { rmsNorm } from "../../src/reference/rms_norm.ts";
import { ropeByTable } from "../../src/reference/rope.ts";
import { type AssetArray, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";

interface OnnxCase {
  nodes: { op: string; inputs: string[]; outputs: string[]; attributes: Record<string, number | string> }[];
  inputs: AssetArray[];
  outputs: AssetArray[];
}

interface Tensor {
  shape: number[];
  data: Float64Array;
}

/** A case's only node with its named inputs and outputs. */
interface Loaded {
  attributes: Record<string, number | string>;
  input(index: number): Tensor | undefined;
  expected: (Tensor | undefined)[];
  isBool(index: number): boolean;
  /** f16 files were computed in f16. */
  isHalf: boolean;
}

function load(path: string): Loaded | undefined {
  const { nodes, inputs, outputs } = readJson<OnnxCase>(path);
  const [node] = nodes;
  if (nodes.length !== 1 || !node) return undefined;
  const place = (names: string[], arrays: AssetArray[]): (AssetArray | undefined)[] => {
    let next = 0;
    return names.map((name) => (name === "" ? undefined : arrays[next++]));
  };
  const tensor = (array: AssetArray | undefined): Tensor | undefined =>
    array && { shape: array.shape, data: decodeArray(array) };
  const placed = place(node.inputs, inputs);
  return {
    attributes: node.attributes,
    input: (index) => tensor(placed[index]),
    expected: place(node.outputs, outputs).map(tensor),
    isBool: (index) => placed[index]?.dtype === "bool",
    isHalf: inputs[0]?.dtype === "float16",
  };
}

function compare(actual: Float64Array, expected: Tensor | undefined, label: string, isHalf = false): void {
  if (!expected) return;
  const close = isHalf ? { atol: 4e-3, rtol: 1e-2 } : { atol: 2e-6, rtol: 1e-5 };
  assertClose(actual, expected.data, { ...close, label, shape: expected.shape });
}

/** `[B, T, H·D]` → `[B, H, T, D]`; a 4-dimensional tensor passes. */
function splitHeads({ shape, data }: Tensor, H: number | undefined): Tensor {
  if (shape.length === 4 || H === undefined) return { shape, data };
  const [B, T, width] = shape as [number, number, number];
  const D = width / H;
  const out = data.map((_, i) => {
    const [b, h, t, d] = [Math.floor(i / (T * width)), Math.floor(i / (T * D)) % H, Math.floor(i / D) % T, i % D];
    return data[((b * T + t) * H + h) * D + d]!;
  });
  return { shape: [B, H, T, D], data: out };
}

/** Past and new keys or values, one after the other. */
function append(past: Tensor | undefined, now: Tensor): Tensor {
  if (!past) return now;
  const [B, H, P, D] = past.shape as [number, number, number, number];
  const [, , S] = now.shape as [number, number, number, number];
  const data: number[] = [];
  for (let head = 0; head < B * H; head++) {
    data.push(...past.data.subarray(head * P * D, (head + 1) * P * D));
    data.push(...now.data.subarray(head * S * D, (head + 1) * S * D));
  }
  return { shape: [B, H, P + S, D], data: Float64Array.from(data) };
}

/** A mask of 2 to 4 dimensions as `[B, H, T, S]`; keys that it lacks are masked with `fill`. */
function maskOf(mask: Tensor, S: number, fill: number): Broadcast {
  const shape = [1, 1, ...mask.shape].slice(-4) as [number, number, number, number];
  const given = shape[3];
  const rows = mask.data.length / given;
  const data = Float64Array.from({ length: rows * S }, (_, i) =>
    i % S < given ? mask.data[Math.floor(i / S) * given + (i % S)]! : fill,
  );
  return { data, shape: [shape[0], shape[1], shape[2], S] };
}

function checkAttention({ attributes, input, expected, isBool, isHalf }: Loaded): void {
  const number = (name: string): number | undefined => attributes[name] as number | undefined;
  const kvHeads = number("kv_num_heads");
  const q = splitHeads(input(0)!, number("q_num_heads"));
  const k = append(input(4), splitHeads(input(1)!, kvHeads));
  const v = append(input(5), splitHeads(input(2)!, kvHeads));
  const [B, H, T, D] = q.shape as [number, number, number, number];
  const [, Hkv, S, Dv] = v.shape as [number, number, number, number];
  const dims = { B, H, Hkv, T, S, D, Dv };
  const mask = input(3);
  const options: AttentionOptions = {
    scale: number("scale"),
    softcap: number("softcap"),
    causal: number("is_causal") === 1,
    queryStart: input(4)?.shape[2] ?? 0,
    keyLengths: input(6)?.data,
    ...(mask && (isBool(3) ? { keep: maskOf(mask, S, 0) } : { bias: maskOf(mask, S, MASKED) })),
  };
  const { out, probs, scores } = attention(q.data, k.data, v.data, dims, options);
  const [y, presentKey, presentValue, weights] = expected;
  if (y) compare(out, splitHeads(y, number("q_num_heads")), "Y", isHalf);
  compare(k.data, presentKey, "present_key");
  compare(v.data, presentValue, "present_value");
  if (!weights) return;
  const { bias: _, keep: __, causal: ___, softcap, ...plain } = options;
  const byMode = [
    () => qkScores(q.data, k.data, dims, plain),
    () => qkScores(q.data, k.data, dims, { ...plain, softcap }),
    () => scores,
    () => probs,
  ];
  // An expected −∞ matches any value ≤ −1e30.
  const finite = { ...weights, data: weights.data.map((x) => Math.max(x, MASKED)) };
  compare(byMode[number("qk_matmul_output_mode") ?? 0]!(), finite, "qk_matmul_output", isHalf);
}

/** Elements before and after the axis: rows and channels. */
function rowsAt(shape: number[], axis: number): { N: number; C: number } {
  const at = axis < 0 ? axis + shape.length : axis;
  const product = (part: number[]): number => part.reduce((a, b) => a * b, 1);
  return { N: product(shape.slice(0, at)), C: product(shape.slice(at)) };
}

function checkNorm(loaded: Loaded, op: "layer" | "rms"): void {
  const { attributes, input, expected } = loaded;
  const x = input(0)!;
  const sizes = rowsAt(x.shape, (attributes["axis"] as number | undefined) ?? -1);
  const options = { ...sizes, eps: (attributes["epsilon"] as number | undefined) ?? 1e-5 };
  const [weight, bias] = [input(1)!.data, input(2)?.data];
  const layer = op === "layer" ? layerNorm(x.data, weight, { ...options, bias }) : undefined;
  const result = layer ?? rmsNorm(x.data, weight, options);
  compare(result.out, expected[0], "Y");
  compare(result.rstd, expected[2], "InvStdDev");
  if (layer) compare(layer.mean, expected[1], "Mean");
}

function checkRotary({ attributes, input, expected }: Loaded): void {
  const x = input(0)!;
  const heads = splitHeads(x, attributes["num_heads"] as number | undefined);
  const [B, H, T, D] = heads.shape as [number, number, number, number];
  const [cos, sin, ids] = [input(1)!, input(2)!, input(3)];
  const pairs = cos.shape[cos.shape.length - 1]!;
  // One row for each [b, h, t]; the table is [B, T, pairs], or [positions, pairs] with ids [B, T].
  const rowOf = ({ data }: Tensor): Float64Array =>
    Float64Array.from({ length: B * H * T * pairs }, (_, i) => {
      const [b, t] = [Math.floor(i / (H * T * pairs)), Math.floor(i / pairs) % T];
      return data[(ids ? ids.data[b * T + t]! : b * T + t) * pairs + (i % pairs)]!;
    });
  const form = attributes["interleaved"] === 1 ? "interleaved" : "half";
  const out = ropeByTable(heads.data, { cos: rowOf(cos), sin: rowOf(sin) }, { N: B * H * T, H: 1, D, form });
  compare(out, splitHeads(expected[0]!, attributes["num_heads"] as number | undefined), "output");
}

function checkSoftmax({ input, expected }: Loaded, log: boolean): void {
  const { data, shape } = input(0)!;
  const S = shape[shape.length - 1]!;
  const { probs, lse } = maskedSoftmax(data, { B: 1, H: 1, T: data.length / S, S });
  compare(log ? data.map((x, i) => x - lse[Math.floor(i / S)]!) : probs, expected[0], "y");
}

function checkCrossEntropy({ attributes, input, expected }: Loaded): void {
  const { data, shape } = input(0)!;
  const [N, V] = shape as [number, number];
  const ignoreIndex = attributes["ignore_index"] as number | undefined;
  const { loss, losses } = crossEntropy(data, input(1)!.data, { N, V, ignoreIndex });
  const reduction = attributes["reduction"] ?? "mean";
  const total = Float64Array.of(losses.reduce((a, b) => a + b, 0));
  compare(reduction === "none" ? losses : reduction === "sum" ? total : Float64Array.of(loss), expected[0], "output");
}

/** What each family of files is checked with; files that need an option that no reference has are not listed. */
const CHECKS: [RegExp, (loaded: Loaded) => void][] = [
  [/^attention_/, checkAttention],
  [/^flexattention(_gqa|_scaled|_diff_head_sizes)?$/, checkAttention],
  [/^layer_normalization_/, (loaded) => checkNorm(loaded, "layer")],
  [/^rms_normalization_/, (loaded) => checkNorm(loaded, "rms")],
  [/^rotary_embedding_/, checkRotary],
  [/^softmax_(axis_2|negative_axis|example)$/, (loaded) => checkSoftmax(loaded, false)],
  [/^logsoftmax_(axis_2|negative_axis|example_1|default_axis|large_number)$/, (loaded) => checkSoftmax(loaded, true)],
  [/^gelu_tanh_/, ({ input, expected }) => compare(activation("gelu_tanh", input(0)!.data), expected[0], "y")],
  [/^swish$/, ({ input, expected }) => compare(activation("silu", input(0)!.data), expected[0], "y")],
  [/^sce_(mean|sum|none|mean_no_weight_ii)$/, checkCrossEntropy],
];

describeWithAssets("references against the ONNX backend suite", "vectors/onnx", (path) => {
  for (const file of readdirSync(path).sort()) {
    const name = file.replace(".json", "");
    const check = CHECKS.find(([pattern]) => pattern.test(name))?.[1];
    if (!check) continue;
    it(name, (context) => {
      const loaded = load(join(path, file));
      if (!loaded) return context.skip("more than one node");
      return check(loaded);
    });
  }
});
