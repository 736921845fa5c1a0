import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { initialise } from "../../src/train/initialise.ts";
import { languageModelObjective } from "../../src/train/losses.ts";
import { parametersOf } from "../../src/train/parameters.ts";
import { TrainingStep } from "../../src/train/training_step.ts";

export default async function bench([what = "lm"]: string[]) {
  const device = await Device.request({ gpu: await nodeGpu() });
  console.log(device.adapter, device.facts.tier);
  const [L, H, C, T, B, V] = what === "lm" ? [4, 4, 128, 64, 12, 65] : [6, 8, 256, 128, 8, 1024];
  const decoder = openDecoder({ model_type: "gpt2", n_layer: L, n_head: H, n_embd: C, n_positions: T, vocab_size: V });
  const tree = initialise(device, decoder, { seed: 1 });
  const step = new TrainingStep(device, {
    objective: languageModelObjective(decoder, tree),
    parameters: parametersOf(decoder.rules, tree),
    optimizer: { type: "adamw" },
  });
  const shape = { batch: B!, length: T! };
  const t0 = performance.now();
  const plan = await step.plan(shape);
  console.log(
    "plan",
    performance.now() - t0,
    plan.dispatches.length,
    step.describe &&
      String(await step.describe(shape))
        .split("\n")
        .slice(0, 3)
        .join("\n"),
  );
  const draw = () => Math.floor(Math.random() * V!);
  for (let i = 0; i < 5; i++) {
    const tokens = Uint32Array.from({ length: B! * T! }, draw);
    const targets = Int32Array.from({ length: B! * T! }, draw);
    const t = performance.now();
    const r = await step.run([{ shape, inputs: { tokens, targets }, count: B! * T!, tokens: B! * T! }], {
      learningRate: 1e-3,
    });
    console.log(i, r, (performance.now() - t).toFixed(0), "ms");
  }
  const times = await plan.profile();
  const by = new Map<string, [number, number]>();
  for (const { kernel, elapsedMs } of times) {
    const e = by.get(kernel) ?? [0, 0];
    by.set(kernel, [e[0] + 1, e[1] + elapsedMs]);
  }
  const total = times.reduce((a, b) => a + b.elapsedMs, 0);
  for (const [k, [n, ms]] of [...by].sort((a, b) => b[1][1] - a[1][1]).slice(0, 25))
    console.log(ms.toFixed(1), ((100 * ms) / total).toFixed(1) + "%", n, k.slice(0, 110));
  console.log("total", total.toFixed(0), times[0]?.clock);
  if (process.env["SLOW"])
    for (const t of [...times].sort((a, b) => b.elapsedMs - a.elapsedMs).slice(0, 20))
      console.log(t.elapsedMs.toFixed(1), t.label, t.kernel.slice(0, 80));
}
