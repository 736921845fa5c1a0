import blockAloneCode from "../../shaders/lib/block_alone.wgsl";
import queriesAloneCode from "../../shaders/lib/block_queries_alone.wgsl";
import queriesSubgroup4Code from "../../shaders/lib/block_queries_subgroup4.wgsl";
import queriesSubgroup8Code from "../../shaders/lib/block_queries_subgroup8.wgsl";
import blockSubgroup4Code from "../../shaders/lib/block_subgroup4.wgsl";
import blockSubgroup8Code from "../../shaders/lib/block_subgroup8.wgsl";
import elementF16Code from "../../shaders/lib/element_f16.wgsl";
import elementF16PackedCode from "../../shaders/lib/element_f16_packed.wgsl";
import elementF32Code from "../../shaders/lib/element_f32.wgsl";
import finalCode from "../../shaders/lib/attention_final.wgsl";
import plainFinalCode from "../../shaders/lib/attention_final_plain.wgsl";
import keyElementCode from "../../shaders/lib/key_element.wgsl";
import keyElementQ80Code from "../../shaders/lib/key_element_q8_0.wgsl";
import kvLoadCode from "../../shaders/lib/kv_load.wgsl";
import kvLoadQ80Code from "../../shaders/lib/kv_load_q8_0.wgsl";
import lanes4Code from "../../shaders/lib/lanes4.wgsl";
import lanes8Code from "../../shaders/lib/lanes8.wgsl";
import maskCode from "../../shaders/lib/mask.wgsl";
import weightF16Code from "../../shaders/lib/weight_f16.wgsl";
import weightF16PackedCode from "../../shaders/lib/weight_f16_packed.wgsl";
import weightF32Code from "../../shaders/lib/weight_f32.wgsl";
import type { KernelVariant, Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { shader, type Value } from "./op.ts";

/** Parts of a kernel and the extensions that they need. */
export interface LinkedPart {
  readonly parts: readonly Shader[];
  readonly enable?: readonly ("f16" | "subgroups")[];
}

/** Scores are kept times log₂ e, so that `exp2` does for `exp`. */
export const LOG2_E = Math.LOG2E;

const FINAL = shader("lib/attention_final.wgsl", finalCode);
const PLAIN_FINAL = shader("lib/attention_final_plain.wgsl", plainFinalCode);
const MASK = shader("lib/mask.wgsl", maskCode);
const BLOCK_ALONE = shader("lib/block_alone.wgsl", blockAloneCode);
const BLOCK_SUBGROUP4 = shader("lib/block_subgroup4.wgsl", blockSubgroup4Code);
const BLOCK_SUBGROUP8 = shader("lib/block_subgroup8.wgsl", blockSubgroup8Code);
const QUERIES_ALONE = shader("lib/block_queries_alone.wgsl", queriesAloneCode);
const QUERIES_SUBGROUP4 = shader("lib/block_queries_subgroup4.wgsl", queriesSubgroup4Code);
const QUERIES_SUBGROUP8 = shader("lib/block_queries_subgroup8.wgsl", queriesSubgroup8Code);
const LANES4 = shader("lib/lanes4.wgsl", lanes4Code);
const LANES8 = shader("lib/lanes8.wgsl", lanes8Code);
const ELEMENT = {
  f32: shader("lib/element_f32.wgsl", elementF32Code),
  f16: shader("lib/element_f16.wgsl", elementF16Code),
  packed: shader("lib/element_f16_packed.wgsl", elementF16PackedCode),
};
const VEC4 = {
  f32: shader("lib/weight_f32.wgsl", weightF32Code),
  f16: shader("lib/weight_f16.wgsl", weightF16Code),
  packed: shader("lib/weight_f16_packed.wgsl", weightF16PackedCode),
};
const KV_LOAD = shader("lib/kv_load.wgsl", kvLoadCode);
const KV_LOAD_Q8_0 = shader("lib/kv_load_q8_0.wgsl", kvLoadQ80Code);
const KEY_ELEMENT = shader("lib/key_element.wgsl", keyElementCode);
const KEY_ELEMENT_Q8_0 = shader("lib/key_element_q8_0.wgsl", keyElementQ80Code);

/** A kernel with its parts. */
export function link(
  kernel: Shader,
  ...linked: readonly LinkedPart[]
): Pick<KernelVariant, "kernel" | "parts" | "enable"> {
  return { kernel, parts: linked.flatMap((l) => l.parts), enable: linked.flatMap((l) => l.enable ?? []) };
}

/** `mask_keeps` and the key ranges of tiles. */
export function maskPart(): LinkedPart {
  return { parts: [MASK] };
}

/** `final_scores`: what a fused kernel makes of products of q and k; `isModified`: more than scaling them. */
export function finalPart(isModified: boolean): LinkedPart {
  return { parts: [isModified ? FINAL : PLAIN_FINAL] };
}

/** `Element` and `unpack_element`: single elements of a dtype, as this device reads them. */
export function elementPart(dtype: "f32" | "f16", facts: GpuFacts): LinkedPart {
  return choose(ELEMENT, dtype, facts);
}

/** `WeightVec4` and `unpack_weight`: four elements of a dtype a load, as this device reads them. */
export function vec4Part(dtype: "f32" | "f16", facts: GpuFacts): LinkedPart {
  return choose(VEC4, dtype, facts);
}

/** `KvWord` and `load_kv`: four channels of a pool of keys and values a load. */
export function kvPart({ dtype }: Value, facts: GpuFacts): LinkedPart {
  if (dtype === "u32") return { parts: [KV_LOAD_Q8_0] };
  const { parts, enable } = vec4Part(dtype as "f32" | "f16", facts);
  return { parts: [KV_LOAD, ...parts], ...(enable && { enable }) };
}

/** `KeyWord` and `key_element`: one channel of a pool of keys and values. */
export function keyElementPart({ dtype }: Value, facts: GpuFacts): LinkedPart {
  if (dtype === "u32") return { parts: [KEY_ELEMENT_Q8_0] };
  const { parts, enable } = elementPart(dtype as "f32" | "f16", facts);
  return { parts: [KEY_ELEMENT, ...parts], ...(enable && { enable }) };
}

/** `load_k8` and `load_v8`: the rows of eight keys for every invocation, loaded once a subgroup where there are subgroups. */
export function blockPart(facts: GpuFacts): LinkedPart {
  if (!facts.subgroups) return { parts: [BLOCK_ALONE] };
  return { parts: [facts.subgroupMin >= 8 ? BLOCK_SUBGROUP8 : BLOCK_SUBGROUP4], enable: ["subgroups"] };
}

/** `load_q8`, `load_dout8` and `row_stats8`: the rows of eight queries; goes with {@link blockPart}. */
export function blockQueriesPart(facts: GpuFacts): LinkedPart {
  if (!facts.subgroups) return { parts: [QUERIES_ALONE] };
  return { parts: [facts.subgroupMin >= 8 ? QUERIES_SUBGROUP8 : QUERIES_SUBGROUP4] };
}

/** `every_lane` and its kin, where every subgroup has 4 or 8 invocations. */
export function lanesPart({ subgroups, subgroupMin, subgroupMax }: GpuFacts): LinkedPart | undefined {
  if (!subgroups || subgroupMin !== subgroupMax || (subgroupMin !== 4 && subgroupMin !== 8)) return undefined;
  return { parts: [subgroupMin === 8 ? LANES8 : LANES4], enable: ["subgroups"] };
}

function choose(by: Record<"f32" | "f16" | "packed", Shader>, dtype: "f32" | "f16", facts: GpuFacts): LinkedPart {
  if (dtype === "f32") return { parts: [by.f32] };
  return facts.f16 ? { parts: [by.f16], enable: ["f16"] } : { parts: [by.packed] };
}
