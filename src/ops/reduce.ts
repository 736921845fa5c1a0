import coreSource from "../../shaders/lib/reduce_core.wgsl";
import serialSource from "../../shaders/lib/reduce_serial.wgsl";
import subgroupsSource from "../../shaders/lib/reduce_subgroups.wgsl";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { shader } from "./op.ts";

const CORE = shader("lib/reduce_core.wgsl", coreSource);
const SERIAL = shader("lib/reduce_serial.wgsl", serialSource);
const SUBGROUPS = shader("lib/reduce_subgroups.wgsl", subgroupsSource);

/**
 * The part that defines `workgroup_sum`, `workgroup_max` and their `_vec4` forms, and the extensions that it needs.
 * The kernel declares `override WORKGROUP_SIZE: u32 = …;` (or the header a constant of that name) and uses it as its
 * `@workgroup_size`; it calls the functions in uniform control flow, which the result is known to keep.
 */
export function reducePart(facts: GpuFacts): {
  readonly parts: readonly Shader[];
  readonly enable: readonly "subgroups"[];
} {
  return facts.subgroups ? { parts: [SUBGROUPS], enable: ["subgroups"] } : { parts: [CORE], enable: [] };
}

/**
 * {@link reducePart} for kernels that do not need to know the result as uniform: on CPU adapters a part that compiles
 * and runs faster there.
 */
export function looseReducePart(facts: GpuFacts): ReturnType<typeof reducePart> {
  return facts.software ? { parts: [SERIAL], enable: [] } : reducePart(facts);
}
