import { expect, it } from "vitest";
import { GentleWait } from "../../src/gpu/gentle_wait.ts";
import { describeOnDevice } from "../support/devices.ts";

/** Turns of the event loop until `until` resolves, counted as Dawn's binding takes them. */
async function turnsUntil(until: Promise<unknown>): Promise<number> {
  let turns = 0;
  let done = false;
  const turn = () => {
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  await until;
  done = true;
  return turns;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

it("is there for software adapters in Node only", () => {
  expect(GentleWait.for(true)).toBeInstanceOf(GentleWait);
  expect(GentleWait.for(false)).toBeUndefined();
});

describeOnDevice("waiting for the GPU", (device) => {
  it("lets the event loop sleep", async ({ skip }) => {
    if (!device().facts.software) skip("the adapter is no CPU");
    // 300 ms in naps that grow to half a millisecond are some 700 turns; without naps there are tens of thousands.
    expect(await turnsUntil(device().guard(sleep(300)))).toBeLessThan(2500);
  });

  it("leaves the event loop alone once it has what it waited for", async ({ skip }) => {
    if (!device().facts.software) skip("the adapter is no CPU");
    const napping = await turnsUntil(device().guard(sleep(200)));
    await expect(device().guard(Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await turnsUntil(sleep(200))).toBeGreaterThan(2 * napping);
  });
});
