import { ceilDiv } from "../core/shape.ts";
import type { KernelVariant, Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { chosenMatmul } from "./choices.ts";
import { type ActivationName, activationPart } from "./activation_parts.ts";
import { type Bound, type Dispatch, shader, type Value } from "./op.ts";
import { leftPart, weightElementPart, weightPart } from "./weights.ts";
import activationNone from "../../shaders/lib/activation_none.wgsl";
import epilogue from "../../shaders/lib/matmul_epilogue.wgsl";
import broadcastNn from "../../shaders/matmul_broadcast_nn.wgsl";
import broadcastNt from "../../shaders/matmul_broadcast_nt.wgsl";
import plain from "../../shaders/matmul_plain.wgsl";
import tiled from "../../shaders/matmul_tiled.wgsl";

const ACTIVATION_NONE = shader("lib/activation_none.wgsl", activationNone);
const EPILOGUE = shader("lib/matmul_epilogue.wgsl", epilogue);
const KERNELS = {
  plain: shader("matmul_plain.wgsl", plain),
  tiled: shader("matmul_tiled.wgsl", tiled),
  broadcast_nt: shader("matmul_broadcast_nt.wgsl", broadcastNt),
  broadcast_nn: shader("matmul_broadcast_nn.wgsl", broadcastNn),
};

/**
 * `plain`: any strides, no workgroup memory. `tiled`: any strides, for GPUs. `broadcast_*`: for CPU adapters with subgroups
 * of 4 or 8, aligned operands; `nt` where depth is contiguous in both, `nn` where columns are contiguous in the weight.
 */
export type MatmulKernel = keyof typeof KERNELS;

/** The part that defines `activate`; the identity for no activation. */
export function activationSlot(kind: ActivationName | undefined): Shader {
  return kind === undefined ? ACTIVATION_NONE : activationPart(kind);
}

/** Where an operand's elements lie, in elements: `offset + batch · batchStride + index · stride + depth · depthStride`. */
export interface OperandLayout {
  readonly offset: number;
  /** Between rows (of x) or columns (of the weight). */
  readonly stride: number;
  readonly depthStride: number;
  readonly batchStride: number;
}

/** One product with all that the kernels can do; sizes in the words of `lib/matmul_epilogue.wgsl`. */
export interface MatmulCall {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly batch: number;
  /** Batches of x that share one of the weight. */
  readonly group: number;
  /** f32 or f16. */
  readonly x: Value;
  readonly xLayout: OperandLayout;
  readonly weight: Bound;
  readonly weightDType: Value["dtype"];
  readonly weightLayout: OperandLayout;
  readonly out: Value;
  readonly outLayout: { readonly offset: number; readonly rowStride: number; readonly batchStride: number };
  readonly alpha?: number;
  readonly bias?: { readonly value: Value; readonly offset: number };
  readonly activation?: ActivationName;
  readonly residual?: { readonly value: Value; readonly offset: number; readonly rowStride: number };
}

/** The kernel for a call: on GPUs `tiled`; on CPU adapters `broadcast_*` where subgroups and alignment allow it. */
export function chooseMatmulKernel(facts: GpuFacts, call: MatmulCall): MatmulKernel {
  const { xLayout: x, weightLayout: w } = call;
  const form = w.depthStride === 1 && x.depthStride === 1 ? "nt" : x.depthStride === 1 ? "nn" : "tn";
  const chosen = chosenMatmul(facts, form, call);
  if (chosen === "plain" || chosen === "tiled") return chosen;
  const broadcast = broadcastKernel(facts, call);
  if (chosen !== undefined && chosen === broadcast) return broadcast;
  if (!facts.software) return "tiled";
  return broadcast ?? "plain";
}

/** The kernel that reads rows by subgroup broadcasts, where subgroups and alignment allow it. */
function broadcastKernel(facts: GpuFacts, call: MatmulCall): "broadcast_nt" | "broadcast_nn" | undefined {
  const { xLayout: x, weightLayout: w, depth } = call;
  const subgroups = facts.subgroupMin === facts.subgroupMax && (facts.subgroupMin === 4 || facts.subgroupMin === 8);
  if (!subgroups) return undefined;
  const aligned = (...sizes: number[]) => sizes.every((s) => s % 4 === 0);
  if (w.depthStride === 1 && x.depthStride === 1) {
    const vec4 = aligned(depth, x.offset, x.stride, x.batchStride, w.offset, w.stride, w.batchStride);
    if (vec4) return "broadcast_nt";
  }
  if (w.stride === 1 && aligned(w.offset, w.depthStride, w.batchStride)) return "broadcast_nn";
  return undefined;
}

/** The dispatch of a call; `kernel` overrules the choice and must be able to do the call. */
export function matmulDispatch(facts: GpuFacts, call: MatmulCall, kernel = chooseMatmulKernel(facts, call)): Dispatch {
  const tile = tileOf(kernel, facts);
  return {
    kernel: matmulVariant(facts, call, kernel),
    bindings: {
      x: call.x,
      weight: call.weight,
      // Every declared binding needs something; the flags keep these from being read.
      bias: call.bias?.value ?? call.x,
      residual: call.residual?.value ?? call.x,
      out: call.out,
    },
    params: matmulParams(call),
    workgroups: [ceilDiv(call.rows, tile.rows), ceilDiv(call.columns, tile.columns), call.batch],
  };
}

function tileOf(kernel: MatmulKernel, facts: GpuFacts): { rows: number; columns: number } {
  switch (kernel) {
    case "plain":
      return { rows: 32, columns: 32 };
    case "tiled":
      return { rows: 64, columns: 64 };
    case "broadcast_nt":
    case "broadcast_nn":
      return { rows: 2 * facts.subgroupMin, columns: 4 * facts.subgroupMin };
  }
}

function matmulVariant(facts: GpuFacts, call: MatmulCall, kernel: MatmulKernel): KernelVariant {
  const broadcast = kernel === "broadcast_nt" || kernel === "broadcast_nn";
  const weight = (broadcast ? weightPart : weightElementPart)(call.weightDType, facts);
  const x = leftPart(call.x.dtype, facts, kernel === "broadcast_nt");
  const half = [...new Set([...weight.enable, ...x.enable])];
  return {
    kernel: KERNELS[kernel],
    parts: [EPILOGUE, activationSlot(call.activation), ...weight.parts, ...x.parts],
    enable: broadcast ? ["subgroups", ...half] : half,
    constants: kernelConstants(facts, call, kernel),
  };
}

function kernelConstants(
  facts: GpuFacts,
  { xLayout, weightLayout }: MatmulCall,
  kernel: MatmulKernel,
): Record<string, number | boolean> {
  switch (kernel) {
    case "plain":
      return {};
    case "tiled":
      return { X_DEPTH_CONTIGUOUS: xLayout.depthStride === 1, WEIGHT_DEPTH_CONTIGUOUS: weightLayout.depthStride === 1 };
    case "broadcast_nt":
      return { SUBGROUP: facts.subgroupMin };
    case "broadcast_nn":
      return { SUBGROUP: facts.subgroupMin, TRANSPOSE_X: xLayout.depthStride !== 1 };
  }
}

function matmulParams(call: MatmulCall): Record<string, number> {
  const { alpha = 1, bias, activation, residual, xLayout: x, weightLayout: w, outLayout: out } = call;
  return {
    rows: call.rows,
    columns: call.columns,
    depth: call.depth,
    x_offset: x.offset,
    x_row_stride: x.stride,
    x_depth_stride: x.depthStride,
    x_batch_stride: x.batchStride,
    weight_offset: w.offset,
    weight_column_stride: w.stride,
    weight_depth_stride: w.depthStride,
    weight_batch_stride: w.batchStride,
    weight_group: call.group,
    out_offset: out.offset,
    out_row_stride: out.rowStride,
    out_batch_stride: out.batchStride,
    residual_offset: residual?.offset ?? 0,
    residual_row_stride: residual?.rowStride ?? 0,
    bias_offset: bias?.offset ?? 0,
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_epilogue: bias || residual || activation || alpha !== 1 ? 1 : 0,
    alpha,
  };
}
