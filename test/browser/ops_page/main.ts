// Runs the cases of test/ops/*.cases.ts in this browser: the body that Vitest runs in Node. Also hands out the public API.
import { measureSpeed } from "../../../src/gpu/probe.ts";
import * as heed from "../../../src/index.ts";
import type { OpCase } from "../../support/op_cases.ts";

/** What one case came to; `error` is absent where it passed. */
export interface CaseResult {
  readonly name: string;
  readonly elapsedMs: number;
  readonly error?: string;
}

/** What the page gives to the tests. */
export interface OpsPage {
  readonly heed: typeof heed;
  /** Runs every case of a file on a device of the tier; `match` narrows it to names that hold that text. */
  run(file: string, tier: heed.Tier, match?: string): Promise<CaseResult[]>;
  /** The self test, as a user runs it: a result for each kernel variant. */
  selfTest(tier: heed.Tier): Promise<CaseResult[]>;
  /** Runs the kernels by which speed is measured, which are no ops, for a moment each. */
  probe(tier: heed.Tier): Promise<void>;
}

const files = import.meta.glob<{ cases: readonly OpCase[] }>("../../ops/*.cases.ts");

async function run(file: string, tier: heed.Tier, match = ""): Promise<CaseResult[]> {
  const load = files[`../../ops/${file}`];
  if (!load) throw new Error(`no cases in ${file}; there are ${Object.keys(files).join(", ")}`);
  const { cases } = await load();
  const device = await heed.Device.request({ tier });
  const results: CaseResult[] = [];
  try {
    for (const c of cases) {
      const name = `${c.op} › ${c.title}`;
      if ((c.tiers && !c.tiers.includes(tier)) || !name.includes(match)) continue;
      results.push(await runCase(c, name, device));
    }
  } finally {
    device.dispose();
  }
  return results;
}

async function selfTest(tier: heed.Tier): Promise<CaseResult[]> {
  const engine = await heed.createEngine({ tier });
  try {
    const from = performance.now();
    const { variants, unusable } = await engine.selfTest();
    const elapsedMs = performance.now() - from;
    return [
      ...variants.map(({ variant, ok, error }) => ({
        name: variant,
        elapsedMs,
        ...(ok ? {} : { error: String(error) }),
      })),
      ...unusable.map(({ name, error }) => ({ name, elapsedMs, error })),
    ];
  } finally {
    await engine.dispose();
  }
}

async function probe(tier: heed.Tier): Promise<void> {
  const device = await heed.Device.request({ tier });
  try {
    await measureSpeed(device, { budgetMs: 2 });
  } finally {
    device.dispose();
  }
}

async function runCase(c: OpCase, name: string, device: heed.Device): Promise<CaseResult> {
  const before = { buffers: device.buffersInUse, bytes: device.bytesInUse };
  const from = performance.now();
  let error: string | undefined;
  try {
    await c.run(device);
    await device.idle();
    const after = { buffers: device.buffersInUse, bytes: device.bytesInUse };
    if (after.buffers !== before.buffers || after.bytes !== before.bytes) {
      error = `left ${after.buffers - before.buffers} buffers with ${after.bytes - before.bytes} bytes`;
    }
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  return { name, elapsedMs: performance.now() - from, error };
}

const page: OpsPage = { heed, run, selfTest, probe };
Object.assign(globalThis, { opsPage: page });
