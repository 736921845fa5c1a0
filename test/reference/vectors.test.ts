import { join } from "node:path";
import { expect, it } from "vitest";
import { activation, activationBackward, type ActivationName } from "../../src/reference/activation.ts";
import { adamwStep } from "../../src/reference/adamw.ts";
import { clipGradients } from "../../src/reference/clip_gradients.ts";
import { crossEntropy } from "../../src/reference/cross_entropy.ts";
import { embedding, embeddingBackward } from "../../src/reference/embedding.ts";
import { gatedActivation, gatedActivationBackward } from "../../src/reference/gated_activation.ts";
import { layerNorm, layerNormBackward } from "../../src/reference/layer_norm.ts";
import { linear, linearBackward } from "../../src/reference/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../../src/reference/rms_norm.ts";
import { rope, ropeBackward, type RopeForm, ropeInverseFrequencies } from "../../src/reference/rope.ts";
import { type AssetArray, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";

interface TorchCase {
  options: Record<string, number | number[]>;
  inputs: Record<string, AssetArray>;
  outputs: Record<string, AssetArray>;
}

describeWithAssets("references against PyTorch", "vectors/torch", (path) => {
  /** Decodes a case, runs `compute` on its inputs and compares each expected output by name. */
  function check(
    file: string,
    compute: (input: (name: string) => Float64Array, c: TorchCase) => Record<string, Float64Array>,
  ): void {
    const c = readJson<TorchCase>(join(path, `${file}.json`));
    const input = (name: string): Float64Array => decodeArray(c.inputs[name] as AssetArray);
    const results = compute(input, c);
    expect(Object.keys(c.outputs).length).toBeGreaterThan(0);
    for (const [name, expected] of Object.entries(c.outputs)) {
      const close = { atol: 1e-6, rtol: 1e-6, label: `${file} ${name}`, shape: expected.shape };
      assertClose(results[name] as Float64Array, decodeArray(expected), close);
    }
  }

  const rows = { N: 7, C: 96 };

  it("linear", () =>
    check("linear", (input) => {
      const sizes = { N: 7, I: 96, O: 33 };
      return {
        out: linear(input("x"), input("weight"), { ...sizes, bias: input("bias") }),
        ...linearBackward(input("x"), input("weight"), input("dout"), sizes),
      };
    }));

  it("layer_norm", () =>
    check("layer_norm", (input) => ({
      out: layerNorm(input("x"), input("weight"), { ...rows, eps: 1e-5, bias: input("bias") }).out,
      ...layerNormBackward(input("x"), input("weight"), input("dout"), { ...rows, eps: 1e-5 }),
    })));

  it("rms_norm", () =>
    check("rms_norm", (input) => ({
      out: rmsNorm(input("x"), input("weight"), { ...rows, eps: 1e-6 }).out,
      ...rmsNormBackward(input("x"), input("weight"), input("dout"), { ...rows, eps: 1e-6 }),
    })));

  for (const [file, name] of [
    ["gelu_erf", "gelu"],
    ["gelu_tanh", "gelu_tanh"],
    ["silu", "silu"],
  ] as [string, ActivationName][]) {
    it(file, () =>
      check(file, (input) => ({
        out: activation(name, input("x")),
        dx: activationBackward(name, input("x"), input("dout")),
      })),
    );
  }

  for (const [file, name] of [
    ["swiglu", "silu"],
    ["geglu_tanh", "gelu_tanh"],
  ] as [string, ActivationName][]) {
    it(file, () =>
      check(file, (input) => ({
        out: gatedActivation(name, input("gate"), input("up")),
        ...gatedActivationBackward(name, input("gate"), input("up"), input("dout")),
      })),
    );
  }

  for (const [file, form] of [
    ["rope_half", "half"],
    ["rope_interleaved", "interleaved"],
    ["rope_partial", "half"],
  ] as [string, RopeForm][]) {
    it(file, () =>
      check(file, (input, { options, inputs }) => {
        const [B, H, T, D] = inputs["x"]!.shape as [number, number, number, number];
        const N = B * H * T;
        const positions = Array.from({ length: N }, (_, n) => (n % T) + (options["start"] as number));
        const inverseFrequencies = ropeInverseFrequencies(
          options["theta"] as number,
          (options["rotary"] as number | undefined) ?? D,
        );
        const all = { N, H: 1, D, form, positions, inverseFrequencies };
        return { out: rope(input("x"), all), dx: ropeBackward(input("dout"), all) };
      }),
    );
  }

  it("embedding", () =>
    check("embedding", (input) => ({
      out: embedding(input("ids"), input("weight"), { C: 24 }),
      dweight: embeddingBackward(input("ids"), input("dout"), { V: 11, C: 24 }),
    })));

  for (const file of ["cross_entropy", "cross_entropy_smoothed"]) {
    it(file, () =>
      check(file, (input, { options }) => {
        const labelSmoothing = (options["label_smoothing"] as number | undefined) ?? 0;
        const result = crossEntropy(input("logits"), input("targets"), { N: 12, V: 57, labelSmoothing });
        return { loss: Float64Array.of(result.loss), dlogits: result.dlogits };
      }),
    );
  }

  it("adamw_clipped", () =>
    check("adamw_clipped", (input, { options }) => {
      const [beta1, beta2] = options["betas"] as [number, number];
      const param = input("weight");
      const grads = input("grads");
      const state = { param, m: new Float64Array(param.length), v: new Float64Array(param.length) };
      const weights: number[] = [];
      for (let step = 1; step <= 8; step++) {
        const grad = grads.slice((step - 1) * param.length, step * param.length);
        clipGradients([grad], options["clip"] as number);
        const rates = { lr: options["lr"] as number, eps: options["eps"] as number };
        adamwStep(state, grad, { ...rates, beta1, beta2, weightDecay: options["weight_decay"] as number, step });
        weights.push(...param);
      }
      return { weights: Float64Array.from(weights) };
    }));
});
