import { isPacked, type PackedFormat, type TensorDType } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { shader } from "./op.ts";
import elementF16 from "../../shaders/lib/element_f16.wgsl";
import elementF16Packed from "../../shaders/lib/element_f16_packed.wgsl";
import elementF32 from "../../shaders/lib/element_f32.wgsl";
import elementLoad from "../../shaders/lib/element_load.wgsl";
import elementOfFour from "../../shaders/lib/element_of_four.wgsl";
import weightBf16 from "../../shaders/lib/weight_bf16.wgsl";
import weightBlocks from "../../shaders/lib/weight_blocks.wgsl";
import weightF16 from "../../shaders/lib/weight_f16.wgsl";
import weightF16Packed from "../../shaders/lib/weight_f16_packed.wgsl";
import weightF32 from "../../shaders/lib/weight_f32.wgsl";
import weightKScales from "../../shaders/lib/weight_k_scales.wgsl";
import weightLoad from "../../shaders/lib/weight_load.wgsl";
import weightQ40 from "../../shaders/lib/weight_q4_0.wgsl";
import weightQ4K from "../../shaders/lib/weight_q4_k.wgsl";
import weightQ5K from "../../shaders/lib/weight_q5_k.wgsl";
import weightQ6K from "../../shaders/lib/weight_q6_k.wgsl";
import weightQ80 from "../../shaders/lib/weight_q8_0.wgsl";
import weightScalar from "../../shaders/lib/weight_scalar.wgsl";
import weightScalarLoad from "../../shaders/lib/weight_scalar_load.wgsl";
import xF16 from "../../shaders/lib/x_f16.wgsl";
import xF16Packed from "../../shaders/lib/x_f16_packed.wgsl";
import xF32 from "../../shaders/lib/x_f32.wgsl";
import xVec4F16 from "../../shaders/lib/x_vec4_f16.wgsl";
import xVec4F16Packed from "../../shaders/lib/x_vec4_f16_packed.wgsl";
import xVec4F32 from "../../shaders/lib/x_vec4_f32.wgsl";

/** Parts to link, and the extensions that they need. */
export interface WeightPart {
  readonly parts: readonly Shader[];
  readonly enable: readonly "f16"[];
}

const WEIGHT_LOAD = shader("lib/weight_load.wgsl", weightLoad);
const ELEMENT_LOAD = shader("lib/element_load.wgsl", elementLoad);
const ELEMENT_OF_FOUR = shader("lib/element_of_four.wgsl", elementOfFour);
const BLOCKS = shader("lib/weight_blocks.wgsl", weightBlocks);
const K_SCALES = shader("lib/weight_k_scales.wgsl", weightKScales);

const VEC4 = {
  f32: [shader("lib/weight_f32.wgsl", weightF32), WEIGHT_LOAD],
  f16: [shader("lib/weight_f16.wgsl", weightF16), WEIGHT_LOAD],
  packed: [shader("lib/weight_f16_packed.wgsl", weightF16Packed), WEIGHT_LOAD],
};
const SCALAR = [
  shader("lib/weight_scalar.wgsl", weightScalar),
  shader("lib/weight_scalar_load.wgsl", weightScalarLoad),
];
const ELEMENT = {
  f32: [shader("lib/element_f32.wgsl", elementF32), ELEMENT_LOAD],
  f16: [shader("lib/element_f16.wgsl", elementF16), ELEMENT_LOAD],
  packed: [shader("lib/element_f16_packed.wgsl", elementF16Packed), ELEMENT_LOAD],
};
const X = {
  f32: [shader("lib/x_f32.wgsl", xF32)],
  f16: [shader("lib/x_f16.wgsl", xF16)],
  packed: [shader("lib/x_f16_packed.wgsl", xF16Packed)],
};
const X_VEC4 = {
  f32: [shader("lib/x_vec4_f32.wgsl", xVec4F32)],
  f16: [shader("lib/x_vec4_f16.wgsl", xVec4F16)],
  packed: [shader("lib/x_vec4_f16_packed.wgsl", xVec4F16Packed)],
};
const PACKED: Readonly<Record<PackedFormat, readonly Shader[]>> = {
  bf16: [shader("lib/weight_bf16.wgsl", weightBf16), WEIGHT_LOAD],
  q8_0: [BLOCKS, shader("lib/weight_q8_0.wgsl", weightQ80)],
  q4_0: [BLOCKS, shader("lib/weight_q4_0.wgsl", weightQ40)],
  q4_k: [BLOCKS, K_SCALES, shader("lib/weight_q4_k.wgsl", weightQ4K)],
  q5_k: [BLOCKS, K_SCALES, shader("lib/weight_q5_k.wgsl", weightQ5K)],
  q6_k: [BLOCKS, shader("lib/weight_q6_k.wgsl", weightQ6K)],
};

/** True for what a weight may be stored as. */
export function isWeightDType(dtype: TensorDType): boolean {
  return dtype === "f32" || dtype === "f16" || isPacked(dtype);
}

/** Defines `WeightVec4` and `load_weight`: four neighbouring weights of the binding `weight`, as this device reads them. */
export function weightPart(dtype: TensorDType, facts: GpuFacts): WeightPart {
  return packedParts(dtype) ?? choose(VEC4, dtype, facts);
}

/** The same for f32 rows whose width is no multiple of four: `load_weight` gives one weight. */
export function weightScalarPart(): WeightPart {
  return { parts: SCALAR, enable: [] };
}

/** Defines `Element` and `load_element`: one weight of the binding `weight`, wherever it lies. */
export function weightElementPart(dtype: TensorDType, facts: GpuFacts): WeightPart {
  const packed = packedParts(dtype);
  return packed ? { ...packed, parts: [...packed.parts, ELEMENT_OF_FOUR] } : choose(ELEMENT, dtype, facts);
}

/** Defines `X` and `load_x`: an element of the binding `x`, f32 or f16, or with `wide` four neighbours. */
export function leftPart(dtype: TensorDType, facts: GpuFacts, wide: boolean): WeightPart {
  return choose(wide ? X_VEC4 : X, dtype, facts);
}

function packedParts(dtype: TensorDType): WeightPart | undefined {
  return isPacked(dtype) ? { parts: PACKED[dtype], enable: [] } : undefined;
}

function choose(by: typeof VEC4, dtype: TensorDType, facts: GpuFacts): WeightPart {
  invariant(dtype === "f32" || dtype === "f16", `a weight has dtype ${dtype}`);
  if (dtype === "f32") return { parts: by.f32, enable: [] };
  // CPU adapters load a word for two halves as fast as for one: on lavapipe a matvec takes 0.6 of the time.
  return facts.f16 && !facts.software ? { parts: by.f16, enable: ["f16"] } : { parts: by.packed, enable: [] };
}
