import type { DType } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { shader } from "./op.ts";
import elementF16 from "../../shaders/lib/element_f16.wgsl";
import elementF16Packed from "../../shaders/lib/element_f16_packed.wgsl";
import elementF32 from "../../shaders/lib/element_f32.wgsl";
import weightF16 from "../../shaders/lib/weight_f16.wgsl";
import weightF16Packed from "../../shaders/lib/weight_f16_packed.wgsl";
import weightF32 from "../../shaders/lib/weight_f32.wgsl";

/** A part to link, and the extensions that it needs. */
export interface WeightPart {
  readonly parts: readonly Shader[];
  readonly enable: readonly "f16"[];
}

const VEC4 = {
  f32: shader("lib/weight_f32.wgsl", weightF32),
  f16: shader("lib/weight_f16.wgsl", weightF16),
  packed: shader("lib/weight_f16_packed.wgsl", weightF16Packed),
};
const ELEMENT = {
  f32: shader("lib/element_f32.wgsl", elementF32),
  f16: shader("lib/element_f16.wgsl", elementF16),
  packed: shader("lib/element_f16_packed.wgsl", elementF16Packed),
};

/** Defines `WeightVec4` and `unpack_weight`: four neighbouring weights a load, as this device reads them. */
export function weightPart(dtype: DType, facts: GpuFacts): WeightPart {
  return choose(VEC4, dtype, facts);
}

/** Defines `Element`, `element_slot` and `unpack_element`: one weight a load, wherever it lies. */
export function weightElementPart(dtype: DType, facts: GpuFacts): WeightPart {
  return choose(ELEMENT, dtype, facts);
}

function choose(by: typeof VEC4, dtype: DType, facts: GpuFacts): WeightPart {
  invariant(dtype === "f32" || dtype === "f16", `a weight has dtype ${dtype}`);
  if (dtype === "f32") return { parts: [by.f32], enable: [] };
  // CPU adapters load a word for two halves as fast as for one: on lavapipe a matvec takes 0.6 of the time.
  return facts.f16 && !facts.software ? { parts: [by.f16], enable: ["f16"] } : { parts: [by.packed], enable: [] };
}
