export { HeedError, type HeedErrorCode, isHeedError } from "./core/errors.ts";
export { type AdapterFacts, Device, type GpuFacts, type RequestDeviceOptions } from "./gpu/device.ts";
export { availableTiers, type Tier, TIERS } from "./gpu/tiers.ts";
