import { ceilDiv } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import type { ActivationName } from "./activation_parts.ts";
import { activationSlot } from "./matmul_kernels.ts";
import { type Bound, type Dispatch, rowLayout, shader, spreadWorkgroups, type Value } from "./op.ts";
import { reducePart } from "./reduce.ts";
import { weightPart } from "./weights.ts";
import epilogue from "../../shaders/lib/matvec_epilogue.wgsl";
import normLayer from "../../shaders/lib/matvec_norm_layer.wgsl";
import normNone from "../../shaders/lib/matvec_norm_none.wgsl";
import normRms from "../../shaders/lib/matvec_norm_rms.wgsl";
import reduceOneSubgroup from "../../shaders/lib/reduce_one_subgroup.wgsl";
import matvec from "../../shaders/matvec.wgsl";
import matvecLanes from "../../shaders/matvec_lanes.wgsl";

const KERNEL = shader("matvec.wgsl", matvec);
const LANES_KERNEL = shader("matvec_lanes.wgsl", matvecLanes);
const EPILOGUE = shader("lib/matvec_epilogue.wgsl", epilogue);
const REDUCE_ONE_SUBGROUP = shader("lib/reduce_one_subgroup.wgsl", reduceOneSubgroup);
const NORMS = {
  none: shader("lib/matvec_norm_none.wgsl", normNone),
  rms: shader("lib/matvec_norm_rms.wgsl", normRms),
  layer: shader("lib/matvec_norm_layer.wgsl", normLayer),
};

/** Rows of x that a workgroup multiplies with the weights that it has loaded, when there are several. */
const X_ROWS = 4;
/** Invocations of a workgroup on CPU adapters, the width of their vectors. */
const LANES = 8;

/** A norm of x's rows that the matvec does itself. */
export interface FusedNorm {
  readonly kind: "rms" | "layer";
  readonly eps: number;
  /** The gain is 1 + weight (Gemma). */
  readonly plusOne?: boolean;
}

/** A few rows of x times a weight, with all that the kernel can do around it. */
export interface MatvecCall {
  /** `[N, depth]` f32 or a view. */
  readonly x: Value;
  readonly weight: Bound;
  readonly weightDType: Value["dtype"];
  /** Outputs of this dispatch; half the weight's rows if `gated`. */
  readonly columns: number;
  readonly out: Value;
  readonly outOffset: number;
  readonly outRowStride: number;
  readonly bias?: { readonly value: Value; readonly offset: number };
  readonly activation?: ActivationName;
  readonly gated?: boolean;
  readonly residual?: { readonly value: Value; readonly offset: number; readonly rowStride: number };
  readonly norm?: FusedNorm & { readonly weight: Value; readonly bias?: Value };
}

/** True if x lies so that the kernel can read it four at a time. */
export function matvecFits(x: Value): boolean {
  const { offset, rowStride } = rowLayout(x);
  const depth = x.shape[1] ?? 0;
  return [depth, offset, rowStride].every((s) => s % 4 === 0) && depth > 0;
}

/** The dispatch of a call. */
export function matvecDispatch(facts: GpuFacts, call: MatvecCall): Dispatch {
  const { x, norm } = call;
  const rows = x.shape[0] ?? 0;
  const xRows = rows === 1 && !facts.fixedRows ? 1 : X_ROWS;
  const outputs = (call.gated ? 2 : 4) * (ownsRows(facts, call) ? LANES : 1);
  const [acrossX, acrossZ = 1] = spreadWorkgroups(ceilDiv(call.columns, outputs));
  return {
    kernel: matvecVariant(facts, call, xRows),
    bindings: {
      x,
      weight: call.weight,
      // Every declared binding needs something; the flags keep these from being read.
      bias: call.bias?.value ?? x,
      residual: call.residual?.value ?? x,
      out: call.out,
      ...(norm && { norm_weight: norm.weight }),
      ...(norm?.kind === "layer" && { norm_bias: norm.bias ?? norm.weight }),
    },
    params: matvecParams(call),
    workgroups: [acrossX, ceilDiv(rows, xRows), acrossZ],
  };
}

/** True where each lane takes weight rows of its own: on CPU adapters, which need no norm here. */
function ownsRows(facts: GpuFacts, call: MatvecCall): boolean {
  return facts.software && !call.norm;
}

function matvecVariant(facts: GpuFacts, call: MatvecCall, xRows: number): KernelVariant {
  const weight = weightPart(call.weightDType, facts);
  const parts = [EPILOGUE, activationSlot(call.activation), ...weight.parts];
  const constants = { X_ROWS: xRows, GATED: call.gated ?? false };
  if (ownsRows(facts, call)) {
    return { kernel: LANES_KERNEL, parts, enable: weight.enable, constants: { ...constants, WORKGROUP_SIZE: LANES } };
  }
  const lanes = laneChoice(facts);
  return {
    kernel: KERNEL,
    parts: [NORMS[call.norm?.kind ?? "none"], ...parts, ...(lanes.parts ?? [])],
    enable: [...weight.enable, ...(lanes.enable ?? [])],
    constants: { ...constants, ...lanes.constants },
  };
}

/** A workgroup of one subgroup, which needs no barrier, where subgroups are one size or large; else of 64 invocations. */
function laneChoice(facts: GpuFacts): Pick<KernelVariant, "parts" | "enable" | "constants"> {
  const { subgroupMin, subgroupMax, software } = facts;
  if (facts.subgroups && (subgroupMin >= 32 || (software && subgroupMin === subgroupMax))) {
    const constants = { WORKGROUP_SIZE: Math.min(subgroupMin, 64) };
    return { parts: [REDUCE_ONE_SUBGROUP], enable: ["subgroups"], constants };
  }
  return { ...reducePart(facts), constants: { WORKGROUP_SIZE: software ? 8 : 64 } };
}

function matvecParams(call: MatvecCall): Record<string, number> {
  const { x, bias, residual, norm } = call;
  const { offset, rowStride } = rowLayout(x);
  return {
    x_rows: x.shape[0] ?? 0,
    columns: call.columns,
    depth4: (x.shape[1] ?? 0) / 4,
    x_offset4: offset / 4,
    x_row_stride4: rowStride / 4,
    out_offset: call.outOffset,
    out_row_stride: call.outRowStride,
    residual_offset: residual?.offset ?? 0,
    residual_row_stride: residual?.rowStride ?? 0,
    bias_offset: bias?.offset ?? 0,
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_norm_bias: norm?.bias ? 1 : 0,
    norm_eps: norm?.eps ?? 0,
    gain_offset: norm?.plusOne ? 1 : 0,
  };
}
