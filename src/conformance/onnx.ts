import { HeedError } from "../core/errors.ts";
import type { ArrayTensor } from "../program/direct.ts";
import { type CaseTensor, decodeArray, type FileArray, isFileArray } from "./arrays.ts";
import type { Precision } from "./compare.ts";
import { onnxAttention } from "./onnx_attention.ts";
import { ONNX_OPS } from "./onnx_ops.ts";
import type { CaseRun } from "./run.ts";

/** A node of a case. */
export interface OnnxNode {
  readonly op: string;
  /** Names; an empty one is an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** A file of `onnx/`: nodes, and arrays for the graph's inputs and outputs in their order. */
interface OnnxCase {
  readonly opset?: Readonly<Record<string, number>>;
  readonly nodes: readonly OnnxNode[];
  readonly graph_inputs?: readonly string[];
  readonly graph_outputs?: readonly string[];
  readonly initializers?: unknown;
  readonly inputs: readonly FileArray[];
  readonly outputs: readonly FileArray[];
}

/** What a node computes. */
export interface NodeOutput {
  readonly tensor: ArrayTensor;
  readonly precision: Precision;
  readonly kernels: readonly string[];
  readonly slack?: number;
  /** The same by other paths, which are compared too. */
  readonly others?: readonly (Omit<NodeOutput, "others"> & { readonly path: string })[];
}

/** A node with its inputs. */
export interface NodeCall {
  readonly node: OnnxNode;
  /** Version of ONNX's own operators. */
  readonly opset: number;
  readonly inputs: readonly (CaseTensor | undefined)[];
  /** A numeric attribute. Throws `BAD_FILE` if it is something else. */
  number(name: string): number | undefined;
  number(name: string, byDefault: number): number;
  /** A required input. Throws `BAD_FILE` without it. */
  input(index: number): CaseTensor;
  /** True if the case asks for that output. */
  wants(index: number): boolean;
}

/** Computes the outputs of a node, in their order; those that are not asked for may be left out. */
export type NodeRunner = (run: CaseRun, call: NodeCall) => Promise<readonly (NodeOutput | undefined)[]>;

/** True if a file's content is a case of ONNX nodes. */
export function isOnnxCase(content: unknown): content is OnnxCase {
  const { nodes, inputs, outputs } = (content ?? {}) as Partial<Record<keyof OnnxCase, unknown>>;
  return (
    Array.isArray(nodes) &&
    nodes.every((n) => typeof n?.op === "string" && Array.isArray(n.inputs) && Array.isArray(n.outputs)) &&
    [inputs, outputs].every((arrays) => Array.isArray(arrays) && arrays.every(isFileArray))
  );
}

/** Runs the nodes of a case in their order and compares the graph's outputs. */
export async function runOnnxCase(run: CaseRun, content: OnnxCase): Promise<void> {
  const { nodes, inputs, outputs } = content;
  run.dtypes = [...inputs, ...outputs].map((array) => array.dtype);
  const known = new Map<string, CaseTensor>(constants(content.initializers));
  const names = content.graph_inputs ?? distinct(nodes.flatMap((n) => n.inputs)).filter((n) => !isMade(nodes, n));
  inputs.forEach((array, i) => {
    known.set(names[i] ?? "", decodeArray(array));
  });
  const computed = new Map<string, NodeOutput>();
  for (const node of nodes)
    await runNode(run, node, content.opset?.["ai.onnx"] ?? Number.POSITIVE_INFINITY, known, computed);
  const wanted = content.graph_outputs?.filter((n) => n !== "") ?? distinct(nodes.flatMap((n) => n.outputs));
  outputs.forEach((array, i) => {
    compareOutput(run, wanted[i] ?? `output ${i}`, decodeArray(array), computed);
  });
}

async function runNode(
  run: CaseRun,
  node: OnnxNode,
  opset: number,
  known: Map<string, CaseTensor>,
  computed: Map<string, NodeOutput>,
): Promise<void> {
  const runner = RUNNERS[node.op];
  if (!runner) throw new HeedError("UNSUPPORTED", `the operator ${node.op}`);
  const inputs = node.inputs.map((name) => {
    const found = name === "" ? undefined : known.get(name);
    if (name !== "" && !found) throw new HeedError("UNSUPPORTED", `the constant "${name}", which the file lacks`);
    return found;
  });
  const results = await runner(run, callOf(node, opset, inputs));
  const dtype = inputs[0]?.dtype ?? "float32";
  node.outputs.forEach((name, i) => {
    const result = results[i];
    if (name === "" || !result) return;
    computed.set(name, result);
    known.set(name, { ...result.tensor, dtype });
  });
}

const RUNNERS: Readonly<Record<string, NodeRunner>> = {
  ...ONNX_OPS,
  Attention: onnxAttention,
  FlexAttention: onnxAttention,
};

function callOf(node: OnnxNode, opset: number, inputs: readonly (CaseTensor | undefined)[]): NodeCall {
  const attributes = node.attributes ?? {};
  return {
    node: { ...node, attributes },
    opset,
    inputs,
    number(name: string, byDefault?: number): number {
      const value = attributes[name] ?? byDefault;
      if (value === undefined || typeof value === "number") return value as number;
      throw new HeedError(
        "BAD_FILE",
        `conformance: ${node.op}.${name} must be a number; got ${JSON.stringify(value)}.`,
      );
    },
    input(index) {
      const found = inputs[index];
      if (found) return found;
      throw new HeedError("BAD_FILE", `conformance: ${node.op} needs input ${index}; got ${node.inputs.join(", ")}.`);
    },
    wants: (index) => (node.outputs[index] ?? "") !== "",
  };
}

function compareOutput(
  run: CaseRun,
  name: string,
  expected: CaseTensor,
  computed: ReadonlyMap<string, NodeOutput>,
): void {
  const found = computed.get(name);
  if (!found) {
    run.missing.push(`the output ${name}`);
    return;
  }
  const { tensor, others = [], ...how } = found;
  run.check({ name, actual: tensor, expected, ...how });
  for (const { path, tensor: actual, ...rest } of others) {
    run.check({ name: `${name} (${path})`, actual, expected, ...rest });
  }
}

/** Initializers by name, as a list of named arrays or an object of arrays. */
function constants(initializers: unknown): [string, CaseTensor][] {
  const listed = Array.isArray(initializers)
    ? initializers.map((item) => [(item as { name?: unknown })?.name, item] as const)
    : Object.entries((initializers ?? {}) as object);
  return listed.flatMap(([name, item]) =>
    typeof name === "string" && isFileArray(item) ? [[name, decodeArray(item)] as [string, CaseTensor]] : [],
  );
}

function isMade(nodes: readonly OnnxNode[], name: string): boolean {
  return nodes.some((n) => n.outputs.includes(name));
}

function distinct(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => name !== "");
}
