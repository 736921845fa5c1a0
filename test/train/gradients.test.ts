import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { type Checkpoint, openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Model, WeightTree } from "../../src/models/family.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openDecoder, openEncoder, openEncoderDecoder } from "../../src/models/registry.ts";
import type { Tensor } from "../../src/gpu/tensor.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { encoderObjective } from "../../src/train/encoder_objective.ts";
import {
  countTargets,
  languageModelObjective,
  MASKED_LOSS,
  NEXT_LOSS,
  translationObjective,
} from "../../src/train/losses.ts";
import type { Batch, Objective } from "../../src/train/objective.ts";
import { parametersOf } from "../../src/train/parameters.ts";
import { encodeModel } from "../../src/train/save.ts";
import { openTask, taskRules } from "../../src/train/tasks.ts";
import { TrainingStep } from "../../src/train/training_step.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { gpt2Reference, type Gpt2Sizes } from "../support/gpt2_reference.ts";
import { createRandom } from "../support/random.ts";
import { readTestCheckpoint, readTestSafetensors } from "../support/safetensors.ts";
import { tolerance, wholeModelGradientTolerance } from "../support/tolerances.ts";
import { sourceOf } from "./tiny.ts";

/** Golden checkpoints with PyTorch's gradients, and what their loss is of. */
const CASES = {
  ...{ gpt2: "decoder", llama_gqa: "decoder" },
  ...{ bert_words: "encoder", bert_classes: "encoder", bert_labels: "encoder", bert_span: "encoder" },
  ...{ marian: "pairs", t5: "pairs", t5_gated: "pairs" },
  bert_pretraining: "pretraining",
} as const;
type CaseName = keyof typeof CASES;

/** Cases that read the checkpoint of another. */
const CHECKPOINTS: Readonly<Partial<Record<CaseName, string>>> = { bert_pretraining: "bert_words" };

/** `gradients.json`, as make_gradient_goldens.py writes it. */
interface GradientGolden {
  batch: {
    tokens: number[][];
    targets: number[][] | number[];
    lengths?: number[];
    segments?: number[][];
    nextTargets?: number[];
    source?: number[][];
    sourceLengths?: number[];
  };
  loss: number;
  /** Central differences in float64, by tensor: index and value. */
  differences: Record<string, [number, number][]>;
}

await describeOnTiers("whole models' gradients", (engine) => {
  it.each(Object.keys(CASES) as CaseName[])(
    "of %s are PyTorch's, and those of differences in float64",
    async (name) => {
      const golden = JSON.parse(readFileSync(`${goldenFolder(name)}/gradients.json`, "utf8")) as GradientGolden;
      const { loss, gradients } = await stepGradients(engine().device, name, golden.batch);
      assertClose([loss], [golden.loss], { ...tolerance("f32", "logits"), label: "loss" });
      const expected = readTestSafetensors(`${goldenFolder(name)}/gradients.safetensors`);
      expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort());
      const largest = Math.max(...[...expected.values()].map(({ data }) => maxSize(data)));
      for (const [key, { data }] of expected) {
        const close = wholeModelGradientTolerance(data, largest);
        const gradient = gradients.get(key) ?? new Float32Array();
        assertClose(gradient, data, { ...close, label: key });
        const differences = golden.differences[key] ?? [];
        expect(differences.length).toBeGreaterThan(0);
        const own = differences.map(([index]) => gradient[index] ?? Number.NaN);
        const numeric = differences.map(([, value]) => value);
        assertClose(own, numeric, { ...close, label: `${key}, differences` });
      }
    },
  );

  it("of both losses of pre-training are those of one large batch, and of its parts where they are accumulated", async () => {
    const { batch } = JSON.parse(readFileSync(`${goldenFolder("bert_pretraining")}/gradients.json`, "utf8"));
    const rows = [0, 1].map((b) => {
      const row = Object.entries(batch).map(([key, all]) => [key, [(all as unknown[])[b]]]);
      return Object.fromEntries(row) as GradientGolden["batch"];
    });
    const whole = await stepGradients(engine().device, "bert_pretraining", batch);
    const parts = await stepGradients(engine().device, "bert_pretraining", ...rows);
    assertClose([parts.loss], [whole.loss], { ...tolerance("f32", "logits"), label: "loss" });
    const largest = Math.max(...[...whole.gradients.values()].map(maxSize));
    for (const [key, gradient] of whole.gradients)
      assertClose(parts.gradients.get(key) ?? [], gradient, {
        ...wholeModelGradientTolerance(gradient, largest),
        label: key,
      });
  });

  it("of gpt2 are those of differences of the plain loops in float64", async () => {
    const { config, tensors } = readTestCheckpoint(goldenFolder("gpt2"));
    const sizes = config as unknown as Gpt2Sizes;
    const ids = [7, 30, 2, 91, 30];
    const [tokens, targets] = [ids.slice(0, -1), ids.slice(1)];
    const { gradients } = await stepGradients(engine().device, "gpt2", { tokens: [tokens], targets: [targets] });
    const loss = (): number => {
      const { logits } = gpt2Reference(tensors, sizes, tokens);
      return (
        targets.reduce((sum, target, t) => sum + surprise(logits, t, target, sizes.vocab_size), 0) / targets.length
      );
    };
    const largest = Math.max(...[...gradients.values()].map(maxSize));
    const random = createRandom(3);
    for (const [key, gradient] of gradients) {
      const data = tensors.get(key)?.data ?? new Float32Array();
      const largestAt = gradient.reduce((at, x, i) => (Math.abs(x) > Math.abs(gradient[at] as number) ? i : at), 0);
      const drawn = Array.from({ length: 3 }, () => random.int(0, data.length - 1));
      const places = [largestAt, ...drawn];
      const numeric = places.map((place) => centralDifference(data, place, loss));
      const own = places.map((place) => gradient[place] as number);
      assertClose(own, numeric, { ...wholeModelGradientTolerance(gradient, largest), label: key });
    }
  });
});

/** One step of plain gradient descent with rate 1: what it takes from each tensor is its gradient, by the checkpoint's names. */
async function stepGradients(
  device: Device,
  name: CaseName,
  ...batches: GradientGolden["batch"][]
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const checkpoint = await openCheckpoint(await folderSource(goldenFolder(CHECKPOINTS[name] ?? name)));
  const { model, tree, objective, dispose } = await openCase(device, checkpoint, CASES[name]);
  const parameters = parametersOf(model.rules, tree);
  const step = new TrainingStep(device, { objective, parameters, optimizer: { type: "sgd", clip: 0 } });
  try {
    const before = await written(model, tree);
    const { loss } = await step.run(
      batches.map((batch) => batchOf(batch, CASES[name])),
      { learningRate: 1 },
    );
    const after = await written(model, tree);
    const gradients = [...before].map(([key, own]): [string, Float32Array] => {
      const moved = after.get(key) ?? new Float32Array();
      return [key, own.map((x, i) => x - (moved[i] ?? Number.NaN))];
    });
    return { loss, gradients: new Map(gradients) };
  } finally {
    await step.dispose();
    dispose();
  }
}

interface OpenedCase {
  model: Model;
  tree: WeightTree<Tensor>;
  objective: Objective;
  dispose(): void;
}

async function openCase(device: Device, checkpoint: Checkpoint, kind: (typeof CASES)[CaseName]): Promise<OpenedCase> {
  const { config } = checkpoint;
  const load = async (model: Model) => {
    const weights = await loadWeights(device, model, checkpoint, { dtype: "f32" });
    return { model, tree: weights.tree, dispose: () => weights.dispose() };
  };
  if (kind === "decoder") {
    const decoder = openDecoder(config);
    const loaded = await load(decoder);
    return { ...loaded, objective: languageModelObjective(decoder, loaded.tree) };
  }
  if (kind === "pretraining") {
    const task = openTask("pretraining", config);
    const loaded = await load({ ...task.model, rules: taskRules(task) });
    return { ...loaded, objective: task.objective(loaded.tree) };
  }
  if (kind === "encoder") {
    const encoder = openEncoder(config);
    const loaded = await load(encoder);
    return { ...loaded, objective: encoderObjective(encoder, loaded.tree) };
  }
  const pair = openEncoderDecoder(config);
  const loaded = await load(pair);
  return { ...loaded, objective: translationObjective(pair, loaded.tree) };
}

function batchOf(
  { tokens, targets, lengths, segments, nextTargets, source, sourceLengths }: GradientGolden["batch"],
  kind: string,
): Batch {
  const flat = Int32Array.from(targets.flat());
  const u32 = (values: readonly (number | readonly number[])[] = []) => Uint32Array.from(values.flat());
  const inputs = {
    ...{ tokens: u32(tokens), targets: flat },
    ...(nextTargets ? { next_targets: Int32Array.from(nextTargets) } : {}),
    ...(kind === "encoder" || nextTargets ? { lengths: u32(lengths), segments: u32(segments) } : {}),
    ...(kind === "pairs" ? { source_tokens: u32(source), source_lengths: u32(sourceLengths) } : {}),
  };
  const shape = {
    ...{ batch: tokens.length, length: tokens[0]?.length ?? 0 },
    ...(source ? { sourceLength: source[0]?.length ?? 0 } : {}),
  };
  const count = countTargets(flat);
  const counts = nextTargets ? { counts: { [MASKED_LOSS]: count, [NEXT_LOSS]: nextTargets.length } } : {};
  return { shape, inputs, count, ...counts, tokens: flat.length };
}

/** What the model would be saved as, without the prefixes that some of a checkpoint's names have. */
async function written(model: Model, tree: WeightTree<Tensor>): Promise<Map<string, Float32Array>> {
  const chunks = await encodeModel(model.rules, tree);
  const files = new Map<string, string | readonly Uint8Array[]>([
    ["config.json", "{}"],
    ["model.safetensors", chunks],
  ]);
  const { tensors } = await openCheckpoint(sourceOf(files));
  const all = new Map<string, Float32Array>();
  for (const [key, { file, start, end }] of tensors) {
    const bytes = await file.read(start, end);
    all.set(key.replace(/^(model|bert|transformer)\./, ""), new Float32Array(bytes.slice().buffer));
  }
  return all;
}

/** `−log softmax(logits[t])[target]`. */
function surprise(logits: Float64Array, t: number, target: number, V: number): number {
  const row = logits.subarray(t * V, (t + 1) * V);
  const max = Math.max(...row);
  return max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0)) - (row[target] as number);
}

/** In float64 but for the place itself, which is f32: the step is the one that rounding leaves. */
function centralDifference(data: Float32Array, place: number, loss: () => number): number {
  const kept = data[place] as number;
  data[place] = kept + 1e-3;
  const [high, above] = [data[place] as number, loss()];
  data[place] = kept - 1e-3;
  const [low, below] = [data[place] as number, loss()];
  data[place] = kept;
  return (above - below) / (high - low);
}

function maxSize(data: ArrayLike<number>): number {
  let max = 0;
  for (let i = 0; i < data.length; i++) max = Math.max(max, Math.abs(data[i] as number));
  return max;
}

function goldenFolder(name: string): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}
