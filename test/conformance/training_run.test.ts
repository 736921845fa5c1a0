import { join } from "node:path";
import { expect, it } from "vitest";
import { repeatTraining, type TrainingRun } from "../../src/conformance/training_run.ts";
import { type AssetArray, assetsPath, decodeArray, describeWithAssets, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";

interface RunFile {
  options: {
    lr: number;
    steps: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    clip: number;
    H: number;
  };
  inputs: Record<string, AssetArray>;
  outputs: Record<string, AssetArray>;
}

function readRun({ options, inputs }: RunFile): TrainingRun {
  const integers = (name: string) => {
    const array = inputs[name];
    return array && { shape: array.shape, data: Int32Array.from(decodeArray(array)) };
  };
  const parameters = Object.entries(inputs)
    .filter(([name]) => name.startsWith("param:"))
    .map(
      ([name, array]) =>
        [name.slice("param:".length), { shape: array.shape, data: Float32Array.from(decodeArray(array)) }] as const,
    );
  return {
    heads: options.H,
    steps: options.steps,
    learningRate: options.lr,
    beta1: options.betas[0],
    beta2: options.betas[1],
    eps: options.eps,
    weightDecay: options.weight_decay,
    clip: options.clip,
    parameters: new Map(parameters),
    tokens: integers("tokens"),
    source: integers("source"),
    target: integers("target"),
  };
}

const root = assetsPath();
if (root) {
  describeOnDevice("training runs of PyTorch", (device) => {
    it.each(["run_decoder", "run_encoder_decoder"])(
      "%s: every loss within 1 %, final parameters alike",
      async (name) => {
        const file = readJson<RunFile>(join(root, "vectors/torch", `${name}.json`));
        const { losses, parameters } = await repeatTraining(device(), readRun(file));
        const expected = decodeArray(file.outputs.losses as AssetArray);
        assertClose(losses, expected, { atol: 0, rtol: 0.01, label: "losses", shape: [expected.length] });
        expect(losses[losses.length - 1]).toBeLessThan(losses[0] as number);
        for (const [output, array] of Object.entries(file.outputs)) {
          if (!output.startsWith("final:")) continue;
          const final = parameters.get(output.slice("final:".length)) as Float32Array;
          assertClose(final, decodeArray(array), { atol: 2e-3, rtol: 1e-2, label: output, shape: array.shape });
        }
      },
    );
  });
} else {
  describeWithAssets("training runs of PyTorch", "vectors/torch", () => {});
}
