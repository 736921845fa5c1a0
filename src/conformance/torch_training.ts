import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { adamwStep, countStep } from "../ops/adamw.ts";
import { globalNorm } from "../ops/global_norm.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import { toF32 } from "./arrays.ts";
import type { Tolerance } from "./compare.ts";
import type { CaseRun } from "./run.ts";
import type { TorchCall } from "./torch.ts";
import { repeatTraining, type TrainingRun } from "./training_run.ts";

/** Losses may differ by 1 %: each step's rounding enters all later ones. Parameters drift likewise. */
const LOSSES = { atol: 0, rtol: 0.01 };
const FINAL_PARAMETERS = { atol: 2e-3, rtol: 1e-2 };

/** True for cases that train: a whole run, or steps of the optimiser. */
export function isTraining({ inputs }: TorchCall): boolean {
  return inputs["grads"] !== undefined || Object.keys(inputs).some((name) => name.startsWith("param:"));
}

/** Repeats a training run, or the optimiser's steps, and compares what it came to. */
export async function torchTraining(run: CaseRun, call: TorchCall): Promise<void> {
  await run.part(() => (call.inputs["grads"] ? runOptimiser(run, call) : runTraining(run, call)));
}

async function runTraining(run: CaseRun, call: TorchCall): Promise<void> {
  const { device } = run.engine;
  const repeated = trainingRun(call);
  const { losses, parameters, kernels } = await repeatTraining(device, repeated, { signal: run.signal });
  for (const [name, expected] of Object.entries(call.outputs)) {
    if (name === "losses") {
      const actual = { shape: [losses.length], data: losses };
      run.check({ name, actual, expected, precision: "op", kernels, tolerance: LOSSES });
      continue;
    }
    const data = parameters.get(name.replace(/^final:/, ""));
    if (!data) continue;
    const actual = { shape: expected.shape, data };
    const tolerance = /\.k\.b$/.test(name) ? unseenTolerance(repeated) : FINAL_PARAMETERS;
    run.check({ name, actual, expected, precision: "op", kernels, tolerance });
  }
}

/**
 * Softmax doesn't see what all keys of a query share, so the gradient of the keys' bias is 0 but for rounding, which Adam divides by its
 * own size: in f32 it wanders, by no more than the learning rate a step, while no loss depends on it.
 */
function unseenTolerance({ learningRate, steps }: TrainingRun): Tolerance {
  return { ...FINAL_PARAMETERS, atol: Math.max(FINAL_PARAMETERS.atol, learningRate * steps) };
}

function trainingRun(call: TorchCall): TrainingRun {
  const integers = (name: string) => {
    const array = call.inputs[name];
    return array && { shape: array.shape, data: Int32Array.from(array.data) };
  };
  const parameters = Object.entries(call.inputs).filter(([name]) => name.startsWith("param:"));
  const tokens = integers("tokens");
  const target = integers("target");
  return {
    ...optimiser(call),
    heads: needNumber(call, "H"),
    steps: call.number("steps") ?? (tokens ?? target)?.shape[0] ?? 0,
    parameters: new Map(parameters.map(([name, array]) => [name.slice("param:".length), toF32(array)])),
    tokens,
    source: integers("source"),
    target,
  };
}

type Optimiser = Pick<TrainingRun, "learningRate" | "beta1" | "beta2" | "eps" | "weightDecay" | "clip">;

function optimiser(call: TorchCall): Optimiser {
  const other = ["amsgrad", "maximize", "momentum", "dropout", "label_smoothing"].find((name) => call.options[name]);
  if (other !== undefined) throw new HeedError("UNSUPPORTED", `training with the option "${other}"`);
  const betas = call.options["betas"] ?? [0.9, 0.999];
  const [beta1, beta2] = Array.isArray(betas) ? betas : [];
  if (typeof beta1 !== "number" || typeof beta2 !== "number") {
    throw new HeedError("BAD_FILE", `conformance: options.betas must be two numbers; got ${JSON.stringify(betas)}.`);
  }
  return {
    learningRate: needNumber(call, "lr"),
    beta1,
    beta2,
    eps: call.number("eps") ?? 1e-8,
    weightDecay: call.number("weight_decay") ?? 0.01,
    clip: call.number("clip") ?? 0,
  };
}

function needNumber(call: TorchCall, name: string): number {
  const value = call.number(name);
  if (value !== undefined) return value;
  throw new HeedError(
    "BAD_FILE",
    `conformance: the case needs options.${name}; got ${Object.keys(call.options).join(", ")}.`,
  );
}

/** Steps of the optimiser on given gradients `[steps, …]`, each step's parameter compared. */
async function runOptimiser(run: CaseRun, call: TorchCall): Promise<void> {
  const [weight, grads] = [toF32(call.input("weight")), toF32(call.input("grads"))];
  const expected = call.outputs["weights"];
  if (!expected)
    throw new HeedError("BAD_FILE", "conformance: steps of an optimiser need the output weights; got none.");
  const { data, kernels } = await stepAdamw(run.engine.device, weight, grads.data, optimiser(call));
  run.check({ name: "weights", actual: { shape: grads.shape, data }, expected, precision: "op", kernels });
}

async function stepAdamw(device: Device, weight: ReturnType<typeof toF32>, grads: Float32Array, options: Optimiser) {
  const { shape } = weight;
  const { beta1, beta2, eps, weightDecay, clip: maxNorm } = options;
  const size = weight.data.length;
  const param = Tensor.from(device, "weight", shape, "f32", weight.data);
  const made = [param, Tensor.create(device, "m", shape, "f32"), Tensor.create(device, "v", shape, "f32")];
  const step = Tensor.create(device, "step", [1], "u32");
  try {
    const rec = new ProgramRecorder("adamw");
    const [p, m, v] = made.map((t) => rec.state(t)) as [Value, Value, Value];
    const grad = rec.input("grad", shape, "f32");
    const lr = rec.input("lr", [1], "f32");
    const count = rec.state(step);
    const attrs = { beta1, beta2, eps, weightDecay, maxNorm };
    adamwStep(rec, { param: p, grad, m, v, norm: globalNorm(rec, [grad]), lr, step: count }, attrs);
    countStep(rec, count);
    const planned = await plan(device, rec);
    try {
      planned.write("lr", new Float32Array([options.learningRate]));
      const data = new Float32Array(grads.length);
      for (let at = 0; at < grads.length; at += size) {
        planned.write("grad", grads.slice(at, at + size));
        await planned.run();
        data.set(new Float32Array(await param.read()), at);
      }
      return { data, kernels: [...new Set(planned.dispatches.map((d) => d.kernel))] };
    } finally {
      planned.dispose();
    }
  } finally {
    for (const t of [...made, step]) t.dispose();
  }
}
