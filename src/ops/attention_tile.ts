import type { GpuFacts } from "../gpu/device.ts";

/** Queries of one workgroup of fused attention; a tile of a host's tile table has at most so many rows. */
export function attentionQueryTile(facts: GpuFacts): number {
  return facts.software ? 32 : 64;
}
