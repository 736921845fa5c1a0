import coreSource from "../../shaders/lib/reduce_core.wgsl";
import subgroupsSource from "../../shaders/lib/reduce_subgroups.wgsl";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { shader } from "./op.ts";

const CORE = shader("lib/reduce_core.wgsl", coreSource);
const SUBGROUPS = shader("lib/reduce_subgroups.wgsl", subgroupsSource);

/**
 * The part that defines `workgroup_sum`, `workgroup_max` and their `_vec4` forms, and the extensions that it needs.
 * The kernel declares `override WORKGROUP_SIZE: u32 = …;` (or the header a constant of that name) and uses it as its
 * `@workgroup_size`; it calls the functions in uniform control flow, which the result is known to keep.
 */
export function reducePart(facts: GpuFacts): { readonly parts: readonly Shader[]; readonly enable: readonly "subgroups"[] } {
  return facts.subgroups ? { parts: [SUBGROUPS], enable: ["subgroups"] } : { parts: [CORE], enable: [] };
}
