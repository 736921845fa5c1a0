import type { Device } from "../../src/gpu/device.ts";
import type { Tier } from "../../src/gpu/tiers.ts";

/** One behaviour of one op; the same body runs in Node and in a browser. `run` throws when the op is wrong. */
export interface OpCase {
  readonly op: string;
  readonly title: string;
  /** Tiers that the case is about; default every tier that the adapter has. */
  readonly tiers?: readonly Tier[];
  run(device: Device): Promise<void>;
}

/** Collects the cases of one op. */
export function opCases(
  op: string,
  define: (add: (title: string, run: OpCase["run"], tiers?: readonly Tier[]) => void) => void,
): OpCase[] {
  const cases: OpCase[] = [];
  define((title, run, tiers) => cases.push({ op, title, run, tiers }));
  return cases;
}
