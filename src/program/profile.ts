import type { Device } from "../gpu/device.ts";
import type { Dims } from "../ops/op.ts";
import type { Plan } from "./replay.ts";

/** Time that one dispatch took. */
export interface DispatchTime {
  readonly label: string;
  readonly kernel: string;
  readonly elapsedMs: number;
  /** `gpu`: timestamps round the dispatch's own pass. `wall`: host time of its own submit, waiting included. */
  readonly clock: "gpu" | "wall";
}

/** Passes whose timestamps fit one query set. */
const QUERIES_PER_SET = 2048;

/** Times each dispatch in a pass of its own, in order. */
export async function profilePlan(plan: Plan, dims: Dims): Promise<DispatchTime[]> {
  return plan.device.timestamps ? withTimestamps(plan, dims) : withWallClock(plan, dims);
}

async function withWallClock(plan: Plan, dims: Dims): Promise<DispatchTime[]> {
  const { device } = plan;
  const times: DispatchTime[] = [];
  for (const dispatch of plan.dispatches) {
    await device.idle();
    const started = performance.now();
    const encoder = device.raw.createCommandEncoder();
    const pass = encoder.beginComputePass();
    plan.encode(pass, dispatch, dims);
    pass.end();
    device.raw.queue.submit([encoder.finish()]);
    await device.idle();
    times.push({
      label: dispatch.label,
      kernel: dispatch.kernel,
      elapsedMs: performance.now() - started,
      clock: "wall",
    });
  }
  return times;
}

async function withTimestamps(plan: Plan, dims: Dims): Promise<DispatchTime[]> {
  const times: DispatchTime[] = [];
  const perSet = QUERIES_PER_SET / 2;
  for (let from = 0; from < plan.dispatches.length; from += perSet) {
    const slice = plan.dispatches.slice(from, from + perSet);
    const stamps = await stampPasses(plan.device, slice.length, (pass, i) => {
      const dispatch = slice[i];
      if (dispatch) plan.encode(pass, dispatch, dims);
    });
    slice.forEach(({ label, kernel }, i) => {
      const ns = Number((stamps[2 * i + 1] ?? 0n) - (stamps[2 * i] ?? 0n));
      times.push({ label, kernel, elapsedMs: ns / 1e6, clock: "gpu" });
    });
  }
  return times;
}

async function stampPasses(
  device: Device,
  count: number,
  encode: (pass: GPUComputePassEncoder, i: number) => void,
): Promise<BigUint64Array> {
  const querySet = device.raw.createQuerySet({ type: "timestamp", count: count * 2 });
  const resolved = device.createBuffer(
    "profile.timestamps",
    count * 16,
    GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
  );
  try {
    const encoder = device.raw.createCommandEncoder();
    for (let i = 0; i < count; i++) {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      });
      encode(pass, i);
      pass.end();
    }
    encoder.resolveQuerySet(querySet, 0, count * 2, resolved, 0);
    device.raw.queue.submit([encoder.finish()]);
    return new BigUint64Array(await device.read(resolved));
  } finally {
    device.destroyBuffer(resolved);
    querySet.destroy();
  }
}
