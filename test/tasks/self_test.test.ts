import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import type { Tier } from "../../src/gpu/tiers.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { plan } from "../../src/program/plan.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import { selfTest } from "../../src/tasks/self_test.ts";
import { ROOT } from "../support/built.ts";
import { describeOnTiers } from "../support/devices.ts";
import { withGpuVariants } from "../support/host.ts";

/** Kernels that no case runs: those by which speed is measured, which give no numbers. */
const NOT_COVERED = /^probe_/;

await describeOnTiers("the self test", (engine) => {
  it("finds every variant right on a right device, and leaves nothing behind", async () => {
    const { device } = engine();
    const before = { buffers: device.buffersInUse, bytes: device.bytesInUse };
    const progress: number[] = [];
    const report = await engine().selfTest({ onProgress: (done) => progress.push(done) });
    expect(report.variants.filter((v) => !v.ok)).toEqual([]);
    expect(report.unusable).toEqual([]);
    expect(report).toMatchObject({ ok: true, tier: device.facts.tier });
    expect(progress.at(-1)).toBe(progress.length);
    await device.idle();
    expect({ buffers: device.buffersInUse, bytes: device.bytesInUse }).toEqual(before);
  }, 900_000);
});

/** A device that runs what `breakCode` makes of the shaders. */
async function brokenEngine(tier: Tier, breakCode: (label: string, code: string) => string): Promise<Engine> {
  const engine = await createEngineWith({ gpu: await nodeGpu(), tier }, openSource);
  const { raw } = engine.device;
  const create = raw.createShaderModule.bind(raw);
  raw.createShaderModule = (descriptor) =>
    create({ ...descriptor, code: breakCode(descriptor.label ?? "", descriptor.code) });
  return engine;
}

const x = { shape: [2, 4], data: Float32Array.of(0, 1, 2, 3, 3, 2, 1, 0) };

describe("the self test on a device that runs a kernel wrongly", () => {
  it("takes the variant out of use, and the op gives right results by another", async () => {
    // As one for CPU adapters the variant has an invocation a row; the other is that of GPUs.
    const engine = await brokenEngine("core", (label, code) =>
      label.startsWith("softmax(reduce_alone") ? code.replace("exp(shifted) / sum", "exp(shifted)") : code,
    );
    const wrong = await engine.softmax(x);
    expect(wrong.data[3]).toBeCloseTo(1, 5);
    const report = await engine.selfTest({ filter: "softmax" });
    expect(report.ok).toBe(false);
    const failing = report.variants.filter((v) => !v.ok);
    expect(failing.map((v) => v.variant)).toEqual([expect.stringMatching(/^softmax\(reduce_alone/)]);
    expect(failing[0]?.error).toMatch(/^softmax: out \[\d+\] is .*, expected /);
    expect(report.unusable).toEqual([]);
    const { data } = await engine.softmax(x);
    expect(data[3]).toBeCloseTo(Math.exp(3) / (1 + Math.E + Math.exp(2) + Math.exp(3)), 5);
    await engine.dispose();
  });

  it("throws UNSUPPORTED naming the kernel where there is no other", async () => {
    const engine = await brokenEngine("core", (label, code) =>
      label.startsWith("activation(activation_relu") ? code.replace("max(x, 0.0)", "max(x, 0.1)") : code,
    );
    expect((await engine.activation(x, "relu")).data[0]).toBeCloseTo(0.1, 5);
    const report = await engine.selfTest({ filter: "activation relu" });
    expect(report.unusable.map((u) => u.name)).toEqual(["activation relu", "gradients of activation relu"]);
    await expect(engine.activation(x, "relu")).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringMatching(/^activation: the kernel activation\(activation_relu\) gave wrong results/),
    });
    expect((await engine.activation(x, "tanh")).data[0]).toBe(0);
    await engine.dispose();
  });

  it("treats a kernel that does not compile alike", async () => {
    const engine = await brokenEngine("core", (label, code) =>
      label.startsWith("group_norm(reduce_alone") ? `${code}\nnonsense` : code,
    );
    const report = await engine.selfTest({ filter: "group norm" });
    const failing = report.variants.filter((v) => !v.ok);
    expect(failing.map((v) => v.variant)).toEqual([expect.stringMatching(/^group_norm\(reduce_alone/)]);
    expect(failing[0]?.error).toContain("does not compile");
    expect(report.unusable).toEqual([]);
    await engine.dispose();
  });

  it("blames the one kernel of several that is wrong", async () => {
    const engine = await brokenEngine("core", (label, code) =>
      label.startsWith("rms_norm_backward(elem_f32,reduce_alone") ? code.replace(/(dx\[[^\]]*\] =)/, "$1 0.5 *") : code,
    );
    const report = await engine.selfTest({ filter: "norm" });
    const failing = report.variants.filter((v) => !v.ok).map((v) => v.variant);
    expect(failing).toEqual([expect.stringMatching(/^rms_norm_backward\(elem_f32,reduce_alone/)]);
    await engine.dispose();
  });

  it.each([
    ["kv_append", "append to the cache"],
    ["adamw", "AdamW"],
    ["dropout", "dropout"],
    ["transpose", "transpose"],
    ["sample_commit", "sampling"],
    ["attention_capture", "captured"],
    ["head_weights", "attention weights"],
    ["attention_decode", "decoding over"],
    ["copy_box", "ragged"],
  ])("finds that %s computes nothing, and names it", async (kernel, filter) => {
    const engine = await brokenEngine("core", (label, code) => {
      if (!label.startsWith(kernel)) return code;
      const body = code.indexOf("{", code.indexOf("fn main(")) + 1;
      return `${code.slice(0, body)} return; ${code.slice(body)}`;
    });
    const { ok, variants } = await engine.selfTest({ filter });
    expect(ok).toBe(false);
    expect(variants.filter((v) => !v.ok).map((v) => v.variant)).toContainEqual(expect.stringMatching(`^${kernel}`));
    await engine.dispose();
  });

  it("stops plans that were made with it", async () => {
    const engine = await brokenEngine("core", (label, code) =>
      label.startsWith("softmax(reduce_alone") ? code.replace("exp(shifted) / sum", "exp(shifted)") : code,
    );
    const { device } = engine;
    const rec = new ProgramRecorder("early");
    rec.output("out", softmax(rec, rec.input("x", [2, 4], "f32"), { axis: -1 }));
    const planned = await plan(device, rec);
    await engine.selfTest({ filter: "softmax" });
    expect(() => planned.replay()).toThrowError(/^program early: the kernel softmax\(.* is out of use/);
    planned.dispose();
    await engine.dispose();
  });
});

describe("the cases of the self test", () => {
  it("run the kernels that forward passes use, on GPUs and on CPU adapters", async () => {
    const seen = new Set<string>();
    const collect = async (device: Device) => {
      for (const { variant } of (await selfTest(device)).variants) seen.add(variant.replace(/\(.*/, ""));
    };
    const gpu = await nodeGpu();
    const [highest, core] = [await Device.request({ gpu }), await Device.request({ gpu, tier: "core" })];
    await collect(highest);
    await withGpuVariants(core, () => collect(core));
    highest.dispose();
    core.dispose();
    const kernels = readdirSync(`${ROOT}/shaders`).filter((name) => name.endsWith(".wgsl"));
    const absent = kernels.map((name) => name.replace(".wgsl", "")).filter((name) => !seen.has(name));
    expect(absent.filter((name) => !NOT_COVERED.test(name))).toEqual([]);
  }, 900_000);

  it("stop for their signal", async () => {
    const device = await Device.request({ gpu: await nodeGpu(), tier: "core" });
    await expect(selfTest(device, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
    device.dispose();
  });
});
