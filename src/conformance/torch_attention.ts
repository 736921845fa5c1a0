import { HeedError } from "../core/errors.ts";
import type { ArrayTensor } from "../program/direct.ts";
import { type AttentionCallOptions, alibiSlopes } from "../tasks/direct_attention.ts";
import { toF32 } from "./arrays.ts";
import { largeScoreSlack, type Qkv, threeKernelGradients, threeKernels } from "./attention_paths.ts";
import { largest, type Precision } from "./compare.ts";
import type { CaseRun } from "./run.ts";
import type { TorchCall } from "./torch.ts";

/** What a case may ask for; anything else is named as missing. */
const OPTIONS = [
  "scale",
  "causal",
  "query_start",
  "prefix",
  "window",
  "key_lengths",
  "softcap",
  "alibi",
  "sinks",
  "bias",
];
const SIZES = ["B", "H", "Hkv", "T", "S", "D", "Dv"];

/** Compares out, lse, probs and the gradients, each by the fused kernels and by the three named ones. */
export async function torchAttention(run: CaseRun, call: TorchCall): Promise<void> {
  const options = optionsOf(call);
  const { q, k, v } = { q: half(call, "q"), k: half(call, "k"), v: half(call, "v") };
  const headDim = q.shape[3] as number;
  let scores: ArrayLike<number> = [];
  const compareAll = (
    result: Readonly<Record<string, ArrayTensor | undefined>>,
    how: { precision: Precision; kernels: readonly string[]; path: string },
  ) => {
    for (const [name, actual] of Object.entries(result)) {
      const expected = call.outputs[name];
      if (!actual || !expected) continue;
      const { path, ...rest } = how;
      const slack = slackOf(how.precision === "gradient" || name === "out" ? name : "weights", call, headDim, scores);
      run.check({ name: path ? `${name} (${path})` : name, actual, expected, slack, ...rest });
    }
  };
  await run.part(async () => {
    const { result, kernels } = await threeKernels(run, { q, k, v }, options);
    scores = result["scores"]?.data ?? [];
    const { probs, ...rest } = result;
    compareAll({ probs }, { precision: "attention", kernels, path: "" });
    compareAll(rest, { precision: "attention", kernels, path: "three kernels" });
  });
  await run.part(async () => {
    const { result, kernels } = await run.call((how) =>
      run.engine.attention(q, k, v, { ...options, keep: "lse", ...how, as: "array" }),
    );
    compareAll({ ...result }, { precision: "attention", kernels, path: "" });
  });
  if (call.inputs["dout"]) await gradients(run, call, { q, k, v }, options, compareAll);
}

async function gradients(
  run: CaseRun,
  call: TorchCall,
  qkv: Qkv,
  options: AttentionCallOptions,
  compareAll: (
    result: Readonly<Record<string, ArrayTensor>>,
    how: { precision: Precision; kernels: readonly string[]; path: string },
  ) => void,
): Promise<void> {
  const dout = toF32(call.input("dout"));
  await run.part(async () => {
    const { result, kernels } = await run.call((how) =>
      run.engine.attentionBackward(qkv.q, qkv.k, qkv.v, dout, { ...options, ...how, as: "array" }),
    );
    compareAll({ ...result }, { precision: "gradient", kernels, path: "" });
  });
  await run.part(async () => {
    const { result, kernels } = await threeKernelGradients(run, { ...qkv, dout }, options);
    compareAll(result, { precision: "gradient", kernels, path: "three kernels" });
  });
}

function optionsOf(call: TorchCall): AttentionCallOptions {
  const { options, inputs } = call;
  const other = Object.keys(options).find((name) => ![...OPTIONS, ...SIZES].includes(name) && options[name]);
  if (other !== undefined) throw new HeedError("UNSUPPORTED", `attention with the option "${other}"`);
  const perBatch = (name: string) => {
    const value = options[name] ?? undefined;
    return value === undefined ? undefined : (value as number | number[]);
  };
  return {
    scale: call.number("scale"),
    causal: options["causal"] === true,
    queryStart: perBatch("query_start"),
    prefix: perBatch("prefix"),
    keyLengths: perBatch("key_lengths"),
    window: (options["window"] ?? undefined) as AttentionCallOptions["window"],
    softcap: call.number("softcap"),
    ...(options["alibi"] ? { alibiSlopes: alibiSlopes(call.input("q").shape[1] as number) } : {}),
    ...(inputs["bias"] ? { bias: toF32(inputs["bias"]) } : {}),
    ...(inputs["mask"] ? { mask: inputs["mask"] } : {}),
    ...(inputs["sinks"] ? { sinks: toF32(inputs["sinks"]) } : {}),
  };
}

/** f16 as its bits, where q, k and v are all so; else f32. */
function half(call: TorchCall, name: "q" | "k" | "v"): ArrayTensor {
  const isHalf = ["q", "k", "v"].every((n) => call.input(n).dtype === "float16");
  return isHalf ? call.input(name) : toF32(call.input(name));
}

/** What large scores add to the tolerance: a score's rounding is a relative error of its weight, and of what it multiplies. */
function slackOf(name: string, call: TorchCall, headDim: number, scores: ArrayLike<number>): number {
  const of = (input: string) => (call.inputs[input] ? toF32(call.input(input)).data : Float32Array.of(1));
  if (name === "out") return largeScoreSlack(headDim, scores, of("v"));
  if (name === "weights") return largeScoreSlack(headDim, scores, [1]);
  const large = largeScoreSlack(headDim, scores, [largest(call.outputs[name] ? toF32(call.outputs[name]).data : [1])]);
  return name === "dbias" ? Math.max(large, cancelledSlack(call, of("dout"), of("v"))) : large;
}

/**
 * What adds up to nothing in the gradient of a bias that is one for all keys: softmax does not see such a bias, so that only the
 * rounding of the `n` terms is left, each an f32 product of dout and v over Dv channels.
 */
function cancelledSlack(call: TorchCall, dout: ArrayLike<number>, v: ArrayLike<number>): number {
  const [B = 1, H = 1, T = 1] = call.input("q").shape;
  const [S = 1, Dv = 1] = call.input("v").shape.slice(2);
  const bias = call.inputs["bias"]?.shape ?? [];
  if (bias.at(-1) !== 1 || S === 1) return 0;
  const terms = (B * H * T * S) / bias.reduce((a, b) => a * b, 1);
  return 2 ** -24 * Math.sqrt(terms * Dv) * largest(dout) * largest(v);
}
