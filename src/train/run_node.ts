import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { gunzipSync } from "node:zlib";
import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { readSafetensorsHeader } from "../formats/safetensors.ts";
import { encodeSafetensors } from "../formats/safetensors_write.ts";
import { streamTensor } from "../formats/stream_tensor.ts";
import type { WeightTree } from "../models/family.ts";
import { loadWeights } from "../models/load.ts";
import { folderSource } from "../sources/folder_node.ts";
import {
  type CheckpointFolder,
  type FilesToWrite,
  listCheckpoints,
  readJsonFile,
  replaceFile,
  writeCheckpoint,
} from "./checkpoint_node.ts";
import { type CurvePoint, curvesSvg } from "./curves.ts";
import type { Optimizer } from "./optimizer.ts";
import { disposeTree, parametersOf } from "./parameters.ts";
import { initialiseRecipe, type Prepared, prepareRecipe } from "./prepare.ts";
import type { Recipe } from "./recipe.ts";
import { encodeModel } from "./save.ts";
import { Trainer, type TrainerState, type TrainingProgress } from "./trainer.ts";
import { TrainingStep } from "./training_step.ts";

/** How {@link trainRecipe} runs. */
export interface RunOptions {
  /** Where the recipe's relative paths begin. */
  readonly folder: string;
  /** Go on from the newest checkpoint in the output folder. Default: begin, and refuse a folder that has any. */
  readonly resume?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TrainingProgress) => void;
}

/** What a run came to. */
export interface RunResult {
  /** The folder of the result. */
  readonly output: string;
  readonly steps: number;
  /** Of the last update. */
  readonly loss: number;
  /** Over all that is held out, with the weights that were saved. */
  readonly validationLoss: number | undefined;
}

/** A line of log.jsonl. */
interface LogLine {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly tokensPerSecond: number;
  readonly validationLoss?: number;
}

const LOG = "log.jsonl";
const STATE = "trainer_state.json";
const MOMENTS = "optimizer.safetensors";
const DEFAULT_CHECKPOINT_EVERY = 250;
const DEFAULT_KEEP = 2;

/**
 * Trains what a recipe says and leaves a folder in the Hub's format: config.json, model.safetensors, tokenizer.json, generation_config.json,
 * beside the recipe, log.jsonl, curves.svg and the checkpoints. Throws `USAGE`, `BAD_FILE`, `DIVERGED`, and `ABORTED` after a checkpoint was
 * written, so that a run that was stopped goes on where it was.
 */
export async function trainRecipe(device: Device, recipe: Recipe, options: RunOptions): Promise<RunResult> {
  const output = resolve(options.folder, recipe.output);
  const checkpoints = join(output, "checkpoints");
  const found = await listCheckpoints(checkpoints);
  const latest = options.resume ? found.at(-1) : undefined;
  if (!options.resume && found.length > 0) {
    throw new HeedError(
      "USAGE",
      `train: ${output} already holds a run with ${found.length} checkpoints. Go on with --resume, choose another output, or remove the folder.`,
    );
  }
  if (options.resume && !latest) {
    throw new HeedError("USAGE", `train: --resume needs a checkpoint; got none in ${checkpoints}. Leave --resume out.`);
  }
  const prepared = await prepareRecipe(recipe, (path) => readUtf8(resolve(options.folder, path)));
  const tree = latest ? await loadTree(device, prepared, latest) : initialiseRecipe(device, prepared.model, recipe);
  let run: Run | undefined;
  try {
    run = new Run(device, { recipe, prepared, tree, output, signal: options.signal });
    if (latest) await run.restore(latest);
    return await run.train(options.onProgress);
  } finally {
    await run?.dispose();
    disposeTree(tree);
  }
}

interface RunParts {
  readonly recipe: Recipe;
  readonly prepared: Prepared;
  readonly tree: WeightTree<Tensor>;
  readonly output: string;
  readonly signal: AbortSignal | undefined;
}

/** A run in its output folder. */
class Run {
  readonly #parts: RunParts;
  readonly #step: TrainingStep;
  readonly #trainer: Trainer;
  #log: LogLine[] = [];
  #saved = -1;

  constructor(device: Device, parts: RunParts) {
    const { recipe, prepared, tree, signal } = parts;
    this.#parts = parts;
    this.#step = new TrainingStep(device, {
      objective: prepared.objective(tree),
      parameters: parametersOf(prepared.model.rules, tree),
      optimizer: recipe.optimizer,
      dropout: recipe.dropout,
      recompute: recipe.recompute,
      seed: recipe.seed,
    });
    const { every, batches, patience } = recipe.evaluate ?? {};
    const { validation } = prepared;
    this.#trainer = new Trainer({
      step: this.#step,
      data: prepared.data,
      steps: recipe.steps,
      schedule: recipe.schedule,
      accumulate: recipe.accumulate,
      evaluateEvery: every,
      patience,
      signal,
      ...(validation ? { validation: () => validation(batches) } : {}),
    });
  }

  /** Goes on from a checkpoint whose weights are loaded already. */
  async restore({ path }: CheckpointFolder): Promise<void> {
    this.#trainer.restore(checkState(await readJsonFile(join(path, STATE)), path));
    await readMoments(this.#step.optimizer, path);
    const text = await readUtf8(join(this.#parts.output, LOG)).catch(() => "");
    // What was logged after the checkpoint will happen again; a kill may have cut the last line.
    const lines = text.split("\n").flatMap((line): LogLine[] => {
      try {
        return [JSON.parse(line) as LogLine];
      } catch {
        return [];
      }
    });
    this.#log = lines.filter(({ step }) => step <= this.#trainer.stepsDone);
    this.#saved = this.#trainer.stepsDone;
  }

  async train(onProgress: ((progress: TrainingProgress) => void) | undefined): Promise<RunResult> {
    const { recipe, output } = this.#parts;
    const every = recipe.checkpoint?.every ?? DEFAULT_CHECKPOINT_EVERY;
    await this.#writeDescriptions();
    try {
      for await (const progress of this.#trainer) {
        this.#log.push(logLine(progress));
        onProgress?.(progress);
        if (progress.step % every === 0) await this.#checkpoint();
      }
    } catch (error) {
      if (error instanceof HeedError && error.code === "ABORTED") await this.#checkpoint();
      throw error;
    }
    await this.#checkpoint();
    const { validation } = this.#parts.prepared;
    const validationLoss = validation ? await this.#trainer.evaluate(validation()) : undefined;
    await this.#writeResult();
    return { output, steps: this.#trainer.stepsDone, loss: this.#log.at(-1)?.loss ?? Number.NaN, validationLoss };
  }

  async dispose(): Promise<void> {
    await this.#step.dispose();
  }

  async #checkpoint(): Promise<void> {
    const step = this.#trainer.stepsDone;
    if (step === this.#saved) return;
    const { prepared, output, tree, recipe } = this.#parts;
    const moments = new Map<string, { format: "f32"; shape: readonly number[]; data: Uint8Array }>();
    for (const [name, tensor] of this.#step.optimizer.moments) {
      moments.set(name, { format: "f32", shape: tensor.shape, data: new Uint8Array(await tensor.read()) });
    }
    const files: FilesToWrite = new Map<string, readonly Uint8Array[] | string>([
      ...this.#modelFiles(),
      ["model.safetensors", await encodeModel(prepared.model.rules, tree)],
      [MOMENTS, encodeSafetensors(moments)],
      [STATE, `${JSON.stringify(this.#trainer.state(), null, 1)}\n`],
    ]);
    await writeCheckpoint(join(output, "checkpoints"), step, files, recipe.checkpoint?.keep ?? DEFAULT_KEEP);
    this.#saved = step;
    await this.#writeLog();
  }

  async #writeDescriptions(): Promise<void> {
    const { output, recipe } = this.#parts;
    await replaceFile(join(output, "recipe.json"), `${JSON.stringify(recipe, null, 2)}\n`);
    await this.#writeLog();
  }

  async #writeResult(): Promise<void> {
    const { output, prepared, tree, recipe } = this.#parts;
    for (const [name, content] of this.#modelFiles()) await replaceFile(join(output, name), content);
    const chunks = await encodeModel(prepared.model.rules, tree, { dtype: recipe.dtype ?? "f32" });
    await replaceFile(join(output, "model.safetensors"), chunks);
  }

  async #writeLog(): Promise<void> {
    const { output } = this.#parts;
    const text = this.#log.map((line) => `${JSON.stringify(line)}\n`).join("");
    await replaceFile(join(output, LOG), text);
    const training = this.#log.map(({ step, loss }): CurvePoint => ({ step, loss }));
    const validation = this.#log.flatMap(({ step, validationLoss: loss }) =>
      loss === undefined ? [] : [{ step, loss }],
    );
    await replaceFile(join(output, "curves.svg"), curvesSvg("Loss by steps", { training, validation }));
  }

  #modelFiles(): [string, string][] {
    const { prepared, recipe } = this.#parts;
    const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
    return [
      ["config.json", json(prepared.config)],
      ["generation_config.json", json(recipe.generation ?? {})],
      ...prepared.tokenizerFiles,
    ];
  }
}

function logLine({
  step,
  loss,
  learningRate,
  gradientNorm,
  tokens,
  elapsedMs,
  validationLoss,
}: TrainingProgress): LogLine {
  const tokensPerSecond = Math.round((1000 * tokens) / elapsedMs);
  return {
    step,
    loss,
    learningRate,
    gradientNorm,
    tokensPerSecond,
    ...(validationLoss === undefined ? {} : { validationLoss }),
  };
}

async function loadTree(device: Device, { model }: Prepared, { path }: CheckpointFolder): Promise<WeightTree<Tensor>> {
  const checkpoint = await openCheckpoint(await folderSource(path));
  return (await loadWeights(device, model, checkpoint, { dtype: "f32" })).tree;
}

async function readMoments(optimizer: Optimizer, path: string): Promise<void> {
  const file = await (await folderSource(path)).open(MOMENTS);
  if (!file) throw new HeedError("BAD_FILE", `train: ${path} must hold ${MOMENTS}; got none.`);
  const { tensors } = await readSafetensorsHeader(file);
  for (const [name, tensor] of optimizer.moments) {
    const entry = tensors.get(name);
    if (!entry || entry.shape.join() !== tensor.shape.join()) {
      throw new HeedError(
        "BAD_FILE",
        `train: ${MOMENTS} in ${path} must hold ${name}. The recipe's model or optimizer was changed.`,
      );
    }
    for await (const { elementStart, data } of streamTensor(entry, "f32", {})) tensor.write(4 * elementStart, data);
  }
}

function checkState(value: unknown, path: string): TrainerState {
  const state = value as Partial<TrainerState> | null;
  const whole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  if (typeof state === "object" && state && whole(state.stepsDone) && whole(state.stale) && "data" in state) {
    return state as TrainerState;
  }
  throw new HeedError("BAD_FILE", `train: ${STATE} in ${path} must hold a trainer's state; got something else.`);
}

async function readUtf8(path: string): Promise<string> {
  try {
    const bytes = await readFile(path);
    return new TextDecoder("utf-8", { fatal: true }).decode(path.endsWith(".gz") ? gunzipSync(bytes) : bytes);
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new HeedError("BAD_FILE", `train: ${path} must be a text file in UTF-8; got ${got}.`, { cause });
  }
}

/** The folder of a recipe, where its relative paths begin. */
export function recipeFolder(path: string): string {
  return dirname(resolve(path));
}

/** Reads a recipe file. Throws `BAD_FILE`. */
export async function readRecipeFile(path: string): Promise<unknown> {
  return readJsonFile(path);
}
