/** A node of an ONNX graph; attributes are floats, integers, strings or lists of integers. */
export interface OnnxNode {
  readonly op: string;
  /** The operator set; default ONNX's own. */
  readonly domain?: "com.microsoft";
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** Integers are bigint, so that 1 and 1.0 differ. */
export type OnnxAttribute = number | bigint | string | readonly bigint[];

/** A constant that lies in another file of the model's folder, or is given here as int64. */
export type OnnxConstant =
  | {
      readonly name: string;
      readonly shape: readonly number[];
      readonly file: string;
      readonly offset: number;
      readonly sizeBytes: number;
    }
  | { readonly name: string; readonly ints: readonly bigint[] };

/** An input or output of the graph, f32; a string is a dimension that is known at run time. */
export interface OnnxPort {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

/** The parts of an ONNX model that {@link encodeOnnx} writes. */
export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxConstant[];
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
}

const FLOAT = 1;
const INT64 = 7;

/** The bytes of an `.onnx` file (onnx.proto3, opset 20). */
export function encodeOnnx(graph: OnnxGraph): Uint8Array {
  const body = [
    ...graph.nodes.map((n) => field(1, encodeNode(n))),
    field(2, text("graph")),
    ...graph.constants.map((c) => field(5, encodeConstant(c))),
    ...graph.inputs.map((p) => field(11, encodePort(p))),
    ...graph.outputs.map((p) => field(12, encodePort(p))),
  ];
  return Buffer.concat([
    int(1, 9),
    field(7, Buffer.concat(body)),
    field(8, Buffer.concat([field(1, text("")), int(2, 20)])),
    field(8, Buffer.concat([field(1, text("com.microsoft")), int(2, 1)])),
  ]);
}

function encodeNode({ op, domain, inputs, outputs, attributes = {} }: OnnxNode): Uint8Array {
  return Buffer.concat([
    ...inputs.map((name) => field(1, text(name))),
    ...outputs.map((name) => field(2, text(name))),
    field(3, text(outputs[0] ?? op)),
    field(4, text(op)),
    ...(domain ? [field(7, text(domain))] : []),
    ...Object.entries(attributes).map(([name, value]) =>
      field(5, Buffer.concat([field(1, text(name)), encodeAttribute(value)])),
    ),
  ]);
}

function encodeAttribute(value: OnnxAttribute): Uint8Array {
  if (typeof value === "number") {
    const bytes = Buffer.alloc(5);
    bytes[0] = (2 << 3) | 5;
    bytes.writeFloatLE(value, 1);
    return Buffer.concat([bytes, int(20, 1)]);
  }
  if (typeof value === "bigint") return Buffer.concat([int(3, value), int(20, 2)]);
  if (typeof value === "string") return Buffer.concat([field(4, text(value)), int(20, 3)]);
  return Buffer.concat([...value.map((v) => int(8, v)), int(20, 7)]);
}

function encodeConstant(constant: OnnxConstant): Uint8Array {
  if ("ints" in constant) {
    const raw = new Uint8Array(BigInt64Array.from(constant.ints).buffer);
    return Buffer.concat([int(1, constant.ints.length), int(2, INT64), field(8, text(constant.name)), field(9, raw)]);
  }
  const entry = (key: string, value: string) => field(13, Buffer.concat([field(1, text(key)), field(2, text(value))]));
  return Buffer.concat([
    ...constant.shape.map((d) => int(1, d)),
    int(2, FLOAT),
    field(8, text(constant.name)),
    entry("location", constant.file),
    entry("offset", String(constant.offset)),
    entry("length", String(constant.sizeBytes)),
    int(14, 1),
  ]);
}

function encodePort({ name, shape }: OnnxPort): Uint8Array {
  const dims = shape.map((d) => field(1, typeof d === "number" ? int(1, d) : field(2, text(d))));
  const tensor = Buffer.concat([int(1, FLOAT), field(2, Buffer.concat(dims))]);
  return Buffer.concat([field(1, text(name)), field(2, field(1, tensor))]);
}

function text(value: string): Uint8Array {
  return Buffer.from(value, "utf8");
}

function field(number: number, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function int(number: number, value: number | bigint): Uint8Array {
  return Buffer.concat([varint(number << 3), varint(value)]);
}

function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.from([...bytes, Number(rest)]);
}
