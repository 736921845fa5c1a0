import { expect, it } from "vitest";
import { fill } from "../../src/ops/fill.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { describeOnDevice } from "../support/devices.ts";

describeOnDevice("plan", (device) => {
  it("refuses a value that no binding can hold, by name, and allocates nothing", async () => {
    const before = device().buffersInUse;
    const rec = new ProgramRecorder("too large");
    rec.output("out", rec.name(fill(rec, [device().raw.limits.maxStorageBufferBindingSize / 4 + 64], 1), "huge"));
    const error: unknown = await plan(device(), rec).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "LIMIT" });
    expect(String(error)).toMatch(/huge \[\d+\] needs \d+ bytes, a binding holds \d+/);
    expect(device().buffersInUse).toBe(before);
  });

  it("sizes its submits as it runs: small ones first, and the result is that of one", async () => {
    const rec = new ProgramRecorder("many");
    for (let i = 0; i < 40; i++) rec.output(`out${i}`, fill(rec, [4], i));
    const planned = await plan(device(), rec);
    const submit = device().raw.queue.submit.bind(device().raw.queue);
    let submits = 0;
    device().raw.queue.submit = (buffers) => {
      submits++;
      return submit(buffers);
    };
    try {
      await planned.run();
      expect(submits).toBeGreaterThan(1);
      expect([...new Float32Array(await planned.readOutput("out39"))]).toEqual([39, 39, 39, 39]);
    } finally {
      device().raw.queue.submit = submit;
      planned.dispose();
    }
  });
});
