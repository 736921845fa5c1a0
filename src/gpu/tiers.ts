import { HeedError } from "../core/errors.ts";

/**
 * What kernels may use, lowest first. `core`: WebGPU's default limits and no features. `subgroups`: subgroups of
 * any size from 4 to 128. `f16`: shader-f16, no subgroups. `full`: both, and larger limits where the adapter has them.
 */
export const TIERS = ["core", "subgroups", "f16", "full"] as const;
export type Tier = (typeof TIERS)[number];

const NEEDS: Record<Tier, readonly GPUFeatureName[]> = {
  core: [],
  subgroups: ["subgroups"],
  f16: ["shader-f16"],
  full: ["subgroups", "shader-f16"],
};

interface HasFeatures {
  readonly features: { has(name: string): boolean };
}

/** Features that a tier asks for. */
export function tierFeatures(tier: Tier): readonly GPUFeatureName[] {
  return NEEDS[tier];
}

/** Every tier that an adapter (or a user's own device) can run. */
export function availableTiers(adapter: HasFeatures): Tier[] {
  return TIERS.filter((tier) => NEEDS[tier].every((f) => adapter.features.has(f)));
}

/** The tier to use: the one asked for, else the highest available. Throws `UNSUPPORTED` naming the missing features. */
export function chooseTier(adapter: HasFeatures, wanted: Tier | undefined): Tier {
  const available = availableTiers(adapter);
  if (wanted === undefined) return available.at(-1) ?? "core";
  if (!TIERS.includes(wanted)) {
    throw new HeedError("USAGE", `device: tier must be one of ${TIERS.join(", ")}; got "${wanted}"`);
  }
  if (!available.includes(wanted)) {
    const missing = NEEDS[wanted].filter((f) => !adapter.features.has(f));
    throw new HeedError(
      "UNSUPPORTED",
      `device: tier ${wanted} needs ${missing.join(" and ")}, which this adapter lacks. Available: ${available.join(", ")}.`,
    );
  }
  return wanted;
}

/** Limits of memory, which every tier raises to what the adapter has: they change no kernel. */
export const MEMORY_LIMITS = ["maxStorageBufferBindingSize", "maxBufferSize"] as const;

/** Limits that tier `full` raises to what the adapter has; in the others kernels keep to WebGPU's defaults. */
export const RAISED_LIMITS = [
  ...MEMORY_LIMITS,
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxStorageBuffersPerShaderStage",
] as const;
