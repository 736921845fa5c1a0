import type { FusionRule } from "./fuse.ts";

/** The fusion table. Each entry has a test in `test/program/fuse.test.ts` that holds fused against unfused. */
export const FUSIONS: readonly FusionRule[] = [];
