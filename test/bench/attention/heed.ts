import { Device } from "../../../src/gpu/device.ts";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import { Tensor } from "../../../src/gpu/tensor.ts";
import type { Tier } from "../../../src/gpu/tiers.ts";
import { attention } from "../../../src/ops/attention.ts";
import { attentionUnfused } from "../../../src/ops/attention_unfused.ts";
import type { Value } from "../../../src/ops/op.ts";
import { gradientsFrom } from "../../../src/program/autodiff.ts";
import { plan } from "../../../src/program/plan.ts";
import { ProgramRecorder } from "../../../src/program/record.ts";
import type { BenchData, BenchShape, Contender, Runner } from "./contender.ts";

/** The engine's device, for both of its paths. */
export async function heedDevice(tier?: Tier): Promise<Device> {
  return Device.request({ gpu: await nodeGpu(), tier });
}

/** Fused attention, or the three named kernels; backward runs the forward pass too. */
export function heedContender(device: Device, path: "fused" | "unfused"): Contender {
  return {
    name: path === "fused" ? "Heed" : "Heed, three kernels",
    own: true,
    prepare: (shape, data) => prepare(device, path, shape, data),
    dispose() {},
  };
}

async function prepare(device: Device, path: "fused" | "unfused", shape: BenchShape, data: BenchData): Promise<Runner> {
  const { B, H, Hkv, T, S, D, causal, window } = shape;
  const tensors = {
    q: Tensor.from(device, "q", [B, H, T, D], "f32", data.q),
    k: Tensor.from(device, "k", [B, Hkv, S, D], "f32", data.k),
    v: Tensor.from(device, "v", [B, Hkv, S, D], "f32", data.v),
    dout: Tensor.from(device, "dout", [B, H, T, D], "f32", data.dout),
  };
  const rec = new ProgramRecorder("attention");
  const [q, k, v] = [rec.weight(tensors.q), rec.weight(tensors.k), rec.weight(tensors.v)];
  const sizes = { heads: H, kvHeads: Hkv, headDim: D, batch: B, queryLength: T, keyLength: S, layout: "bhtd" } as const;
  const spec = { ...sizes, causal, window, queryStart: S - T };
  const { out } =
    path === "fused"
      ? attention(rec, { q, k, v }, { ...spec, keep: shape.backward ? "lse" : undefined })
      : attentionUnfused(rec, { q, k, v }, spec);
  const outputs: Record<string, Value> = shape.backward ? {} : { out };
  if (shape.backward) {
    const grads = gradientsFrom(rec, new Map([[out, rec.weight(tensors.dout)]]), [q, k, v]);
    ["dq", "dk", "dv"].forEach((name, i) => {
      outputs[name] = grads[i]!;
    });
  }
  for (const [name, value] of Object.entries(outputs)) rec.output(name, value);
  const planned = await plan(device, rec);
  return {
    async run() {
      planned.replay();
      return Promise.all(Object.keys(outputs).map(async (name) => new Float32Array(await planned.readOutput(name))));
    },
    dispose() {
      planned.dispose();
      for (const t of Object.values(tensors)) t.dispose();
    },
  };
}
