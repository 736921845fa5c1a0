import type { Device } from "../../src/gpu/device.ts";
import { LINEAR, type LinearAttrs } from "../../src/ops/linear.ts";
import { only, type Value } from "../../src/ops/op.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { type HostTensor, runOps } from "../../src/program/run_ops.ts";
import { activation } from "../../src/reference/activation.ts";
import { gatedActivation } from "../../src/reference/gated_activation.ts";
import { layerNorm } from "../../src/reference/layer_norm.ts";
import { linear } from "../../src/reference/matmul.ts";
import { rmsNorm } from "../../src/reference/rms_norm.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16, toFloat16Bits } from "../support/float16.ts";
import { createRandom, type Random } from "../support/random.ts";
import { sumTolerance } from "../support/tolerances.ts";

/** One linear layer with what may be fused into it. */
export interface LinearSpec {
  readonly N: number;
  readonly K: number;
  /** Rows of the weight. */
  readonly M: number;
  readonly dtype?: "f32" | "f16";
  readonly bias?: boolean;
  readonly residual?: boolean;
  readonly normBias?: boolean;
  /** x is a range of the columns of something wider. */
  readonly view?: boolean;
  readonly maxPartBytes?: number;
  readonly scale?: number;
  readonly attrs?: LinearAttrs;
  readonly seed?: number;
}

interface LinearData {
  readonly x: Float64Array;
  readonly weight: Float64Array;
  readonly bias?: Float64Array;
  readonly residual?: Float64Array;
  readonly normWeight?: Float64Array;
  readonly normBias?: Float64Array;
}

const VIEW_OFFSET = 4;
const VIEW_EXTRA = 12;

/** Runs the layer on the device and compares it with the float64 reference. */
export async function checkLinear(device: Device, spec: LinearSpec): Promise<void> {
  const { N, M, attrs = {}, seed = 1 } = spec;
  const data = drawLinear(spec, createRandom(seed));
  const actual = await runLinear(device, spec, data);
  const expected = expectedLinear(spec, data);
  const columns = attrs.gated ? M / 2 : M;
  assertClose(actual, expected, {
    ...sumTolerance("f32", { K: spec.K, maxTerm: 4 * (spec.scale ?? 1) }),
    label: `linear ${JSON.stringify(spec)}`,
    shape: [N, columns],
    context: `seed ${seed}, tier ${device.facts.tier}`,
  });
}

function drawLinear(spec: LinearSpec, random: Random): LinearData {
  const { N, K, M, scale = 1, attrs = {} } = spec;
  const columns = attrs.gated ? M / 2 : M;
  const weight = random.normals(M * K);
  return {
    x: random.normals(N * K, scale),
    weight: spec.dtype === "f16" ? roundToFloat16(weight) : weight,
    bias: spec.bias ? random.normals(M) : undefined,
    residual: spec.residual ? random.normals(N * columns) : undefined,
    normWeight: attrs.norm && random.normals(K),
    normBias: attrs.norm && spec.normBias ? random.normals(K) : undefined,
  };
}

async function runLinear(device: Device, spec: LinearSpec, data: LinearData): Promise<Float32Array> {
  const { N, K, M, attrs = {} } = spec;
  const columns = attrs.gated ? M / 2 : M;
  const inputs: Record<string, HostTensor> = {
    x: spec.view ? widened(data.x, N, K) : { shape: [N, K], data: Float32Array.from(data.x) },
    weight: {
      shape: [M, K],
      data: spec.dtype === "f16" ? toFloat16Bits(data.weight) : Float32Array.from(data.weight),
      maxPartBytes: spec.maxPartBytes,
    },
  };
  const add = (name: string, values: Float64Array | undefined, shape: number[]): void => {
    if (values) inputs[name] = { shape, data: Float32Array.from(values) };
  };
  add("bias", data.bias, [M]);
  add("residual", data.residual, [N, columns]);
  add("norm_weight", data.normWeight, [K]);
  add("norm_bias", data.normBias, [K]);
  const results = await runOps(device, inputs, (rec, v) => {
    const x = spec.view ? sliceColumns(rec, v["x"] as Value, VIEW_OFFSET, K) : v["x"];
    return { out: only(rec.record(LINEAR, { ...v, x }, attrs)) };
  });
  return results["out"] as Float32Array;
}

/** x `[N, K]` as columns of something wider that holds other numbers. */
function widened(x: Float64Array, N: number, K: number): HostTensor {
  const width = K + VIEW_EXTRA;
  const data = new Float32Array(N * width).fill(777);
  for (let n = 0; n < N; n++) data.set(x.subarray(n * K, (n + 1) * K), n * width + VIEW_OFFSET);
  return { shape: [N, width], data };
}

function expectedLinear({ N, K, M, attrs = {} }: LinearSpec, data: LinearData): Float64Array {
  const normed = expectedNorm(data, N, K, attrs);
  const sums = linear(normed, data.weight, { N, I: K, O: M, bias: data.bias });
  let out = attrs.activation ? activation(attrs.activation, sums) : sums;
  if (attrs.gated) {
    const half = (from: number) =>
      Float64Array.from(
        { length: (N * M) / 2 },
        (_, i) => sums[Math.floor(i / (M / 2)) * M + from + (i % (M / 2))] as number,
      );
    out = gatedActivation(attrs.gated, half(0), half(M / 2));
  }
  return out.map((value, i) => value + (data.residual?.[i] ?? 0));
}

function expectedNorm(
  { x, normWeight, normBias }: LinearData,
  N: number,
  K: number,
  { norm }: LinearAttrs,
): Float64Array {
  if (!norm || !normWeight) return x;
  const gain = normWeight.map((g) => (norm.plusOne ? 1 + g : g));
  if (norm.kind === "rms") return rmsNorm(x, gain, { N, C: K, eps: norm.eps }).out;
  return layerNorm(x, gain, { N, C: K, eps: norm.eps, bias: normBias }).out;
}
