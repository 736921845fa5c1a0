import { blockElements, isPacked, type TensorDType } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { formatTensor, sameShape, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import type { ActivationName } from "./activation_parts.ts";
import { castF16 } from "./cast.ts";
import { chosenMatvec } from "./choices.ts";
import { columnSums } from "./column_sums.ts";
import { matmul } from "./matmul.ts";
import { type MatmulKernel, matmulDispatch } from "./matmul_kernels.ts";
import { type FusedNorm, matvecDispatch, matvecFits } from "./matvec_kernel.ts";
import {
  type Bound,
  type Inputs,
  type LowerContext,
  only,
  type OpDef,
  type OpNode,
  type Recorder,
  rowLayout,
  type Value,
} from "./op.ts";
import { need, rowsAndColumns } from "./rows.ts";
import { isWeightDType } from "./weights.ts";

/** Rows of x up to which the weights' bytes are what a product costs. */
const MATVEC_ROWS = 8;
/** The same on CPU adapters, which pay for loads, not for bytes: lavapipe, 768 × 3,072, 4 rows 4.9 ms against 5.3, 8 rows 9.7 against 6.6. */
const MATVEC_ROWS_SOFTWARE = 4;

/**
 * What planning fuses into a linear layer; models record none of it. In this order: norm of x, product, bias,
 * activation (or the gate), residual.
 */
export interface LinearAttrs {
  readonly activation?: ActivationName;
  /** The weight is `[2F, K]`, F rows of gate and F of up: `out = act(gate) · up`, `[N, F]`. */
  readonly gated?: ActivationName;
  readonly norm?: FusedNorm;
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: "matvec" | MatmulKernel;
}

interface LinearSizes {
  readonly N: number;
  readonly K: number;
  /** Rows of the weight. */
  readonly M: number;
  /** Columns of out: M, or M / 2 if gated. */
  readonly columns: number;
}

export const LINEAR: OpDef<LinearAttrs> = {
  name: "linear",
  infer(inputs, attrs) {
    const { N, columns } = linearSizes(inputs, attrs);
    return [{ shape: [N, columns], dtype: "f32" }];
  },
  lower: lowerLinear,
  backward(rec, { inputs, attrs }, [dout], needs): Record<string, Value> {
    if (attrs.activation || attrs.gated || attrs.norm || inputs["residual"]) {
      throw new HeedError(
        "UNSUPPORTED",
        "linear: a fused layer has no gradient; got one in the record. Record bare layers and take the gradient before planning.",
      );
    }
    const grads: Record<string, Value> = {};
    if (!dout) return grads;
    const [x, weight] = [need(inputs, "x"), need(inputs, "weight")];
    // In mixed precision the products of the gradient are of f16 too.
    const left = x.dtype === "f16" ? castF16(rec, dout) : dout;
    if (needs.has("x")) grads["x"] = matmul(rec, left, weight, { layout: "NN" });
    if (needs.has("weight")) grads["weight"] = matmul(rec, left, x, { layout: "TN" });
    if (inputs["bias"] && needs.has("bias")) grads["bias"] = columnSums(rec, dout);
    return grads;
  },
};

/**
 * `out = x · weightᵀ + bias`.
 *
 * x `[N, K]` f32, a view of columns or f16, weight `[M, K]` f32, f16 or packed (in several row parts where it exceeds a binding),
 * bias `[M]` f32 → `[N, M]` f32, sums in f32. Gradients: `dx = dout · weight`, `dweight = doutᵀ · x`, `dbias = Σ_n dout[n]`.
 * Throws `SHAPE`.
 */
export function linear(rec: Recorder, x: Value, weight: Value, options: { bias?: Value } = {}): Value {
  return only(rec.record(LINEAR, { x, weight, bias: options.bias }, {}));
}

/** True if a linear layer may take the norm that gives its x into itself (attribute `norm`); x is the norm's own input. */
export function linearAcceptsNorm(x: Value, facts: GpuFacts): boolean {
  // On a CPU adapter each workgroup of few rows would compute the norm again, which costs more than a dispatch.
  return !facts.software && usesMatvec(facts, x);
}

/** True if a linear layer may multiply gate and up itself: few rows, and a weight `[2F, K]` in one part. */
export function linearAcceptsGate(x: Value, weight: Value, facts: GpuFacts): boolean {
  return chooseMatvec(facts, x) && (weight.tensor?.parts.length ?? 1) === 1;
}

function usesMatvec({ fixedRows }: GpuFacts, x: Value): boolean {
  const isFew = fixedRows ? fixedRows === "few" : (x.shape[0] ?? 0) <= MATVEC_ROWS;
  return isFew && x.dtype === "f32" && matvecFits(x);
}

function linearSizes(inputs: Inputs, attrs: LinearAttrs): LinearSizes {
  const { x, weight, bias, residual } = inputs;
  const { rows: N, columns: K } = rowsAndColumns("linear", "x", x?.dtype === "f16" ? { ...x, dtype: "f32" } : x);
  const [M, depth] = weight?.shape ?? [];
  const isWeight = weight?.shape.length === 2 && isWeightDType(weight.dtype);
  if (!weight || M === undefined || !isWeight || depth !== K) {
    const got = [x, weight].map((v, i) => (v ? formatTensor(i === 0 ? "x" : "weight", v) : "no weight")).join(", ");
    throw shapeError(
      "linear",
      "x must be [N, K] f32 and weight [M, K] f32, f16 or packed",
      got,
      "A weight stored [in, out] has to be transposed.",
    );
  }
  if (attrs.gated && (M % 2 !== 0 || attrs.activation)) {
    throw shapeError(
      "linear",
      "a gated weight must be [2F, K], and has no other activation",
      formatTensor("weight", weight),
    );
  }
  const block = blockElements(weight.dtype);
  if (K % Math.max(block, isPacked(weight.dtype) ? 4 : 1) !== 0) {
    const rule = `K must be a multiple of ${Math.max(block, 4)} for ${weight.dtype}`;
    throw shapeError("linear", rule, formatTensor("weight", weight), "Load the weight as f16.");
  }
  const columns = attrs.gated ? M / 2 : M;
  checkOptional("bias", bias, [M], "Load biases as f32.");
  checkOptional("residual", residual, [N, columns], "");
  for (const name of ["norm_weight", "norm_bias"] as const)
    checkOptional(name, inputs[name], [K], "Load norm weights as f32.");
  if (attrs.norm && !inputs["norm_weight"]) throw shapeError("linear", "a norm needs norm_weight [K]", "none");
  return { N, K, M, columns };
}

function checkOptional(name: string, value: Value | undefined, shape: readonly number[], mend: string): void {
  if (!value || (sameShape(value.shape, shape) && value.dtype === "f32")) return;
  throw shapeError(
    "linear",
    `${name} must be ${formatTensor("", { shape, dtype: "f32" }).trim()}`,
    formatTensor(name, value),
    mend,
  );
}

function lowerLinear({ inputs, outputs, attrs }: OpNode<LinearAttrs>, context: LowerContext): void {
  const sizes = linearSizes(inputs, attrs);
  if (sizes.N * sizes.columns === 0) return;
  const [x, weight] = [need(inputs, "x"), need(inputs, "weight")];
  const parts = context.parts(weight);
  const fused = attrs.norm !== undefined || attrs.gated !== undefined;
  const chosen = fused ? usesMatvec(context.facts, x) : chooseMatvec(context.facts, x);
  const matvec = attrs.kernel ? attrs.kernel === "matvec" : chosen;
  if (!matvec && fused) {
    throw new HeedError(
      "UNSUPPORTED",
      `linear: a norm or a gate is fused for few rows only; got ${formatTensor("x", x)}. Ask linearAcceptsNorm or linearAcceptsGate first.`,
    );
  }
  const lowerPart = matvec ? lowerMatvec : lowerMatmul;
  parts.forEach(({ rowStart, rows, dtype }, part) => {
    const bound = parts.length === 1 ? weight : { value: weight, part };
    lowerPart({ inputs, out: only(outputs), attrs, sizes, weight: bound, dtype, rowStart, rows }, context);
  });
}

function chooseMatvec(facts: GpuFacts, x: Value): boolean {
  const rows = facts.software ? MATVEC_ROWS_SOFTWARE : MATVEC_ROWS;
  const N = x.shape[0] ?? 0;
  return usesMatvec(facts, x) && (facts.fixedRows === "few" || (chosenMatvec(facts, N) ?? N <= rows));
}

/** The share of one row part of the weight. */
interface LinearPart {
  readonly inputs: Inputs;
  readonly out: Value;
  readonly attrs: LinearAttrs;
  readonly sizes: LinearSizes;
  readonly weight: Bound;
  readonly dtype: TensorDType;
  readonly rowStart: number;
  readonly rows: number;
}

/** Bias and residual of a part: its range of the bias, its columns of the residual. */
function additions({ inputs, rowStart }: LinearPart): Pick<Parameters<typeof matvecDispatch>[1], "bias" | "residual"> {
  const { bias, residual } = inputs;
  const layout = residual && rowLayout(residual);
  return {
    bias: bias && { value: bias, offset: rowStart },
    residual: residual && layout && { value: residual, offset: layout.offset + rowStart, rowStride: layout.rowStride },
  };
}

function lowerMatvec(part: LinearPart, context: LowerContext): void {
  const { inputs, attrs, sizes, rows } = part;
  const { norm, gated } = attrs;
  const call = {
    x: need(inputs, "x"),
    weight: part.weight,
    weightDType: part.dtype,
    columns: gated ? rows / 2 : rows,
    out: part.out,
    outOffset: part.rowStart,
    outRowStride: sizes.columns,
    activation: gated ?? attrs.activation,
    gated: gated !== undefined,
    norm: norm && { ...norm, weight: need(inputs, "norm_weight"), bias: inputs["norm_bias"] },
    ...additions(part),
  };
  context.dispatch(matvecDispatch(context.facts, call));
}

function lowerMatmul(part: LinearPart, context: LowerContext): void {
  const { inputs, attrs, sizes, rows } = part;
  const x = need(inputs, "x");
  const { offset, rowStride } = rowLayout(x);
  const call = {
    rows: sizes.N,
    columns: rows,
    depth: sizes.K,
    batch: 1,
    group: 1,
    x,
    xLayout: { offset, stride: rowStride, depthStride: 1, batchStride: 0 },
    weight: part.weight,
    weightDType: part.dtype,
    weightLayout: { offset: 0, stride: sizes.K, depthStride: 1, batchStride: 0 },
    out: part.out,
    outLayout: { offset: part.rowStart, rowStride: sizes.columns, batchStride: 0 },
    activation: attrs.activation,
    ...additions(part),
  };
  context.dispatch(matmulDispatch(context.facts, call, attrs.kernel === "matvec" ? undefined : attrs.kernel));
}
