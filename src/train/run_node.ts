import { appendFile, readdir, readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { gunzipSync } from "node:zlib";
import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { Device } from "../gpu/device.ts";
import { folderSource } from "../sources/folder_node.ts";
import {
  type CheckpointFolder,
  type FilesToWrite,
  listCheckpoints,
  readJsonFile,
  removeUnfinished,
  replaceFile,
  writeCheckpoint,
} from "./checkpoint_node.ts";
import { type CurvePoint, curvesSvg } from "./curves.ts";
import { diskFile } from "./data/files_node.ts";
import { changedData, DATA_RECORD, type DataRecord, recordData } from "./data_record_node.ts";
import type { Examples } from "./examples.ts";
import type { Precision } from "./mixed.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";
import { checkUnlocked, lockFolder } from "./run_lock_node.ts";
import type { Trainer, TrainingProgress } from "./trainer.ts";
import { Training } from "./training.ts";

/** How {@link trainRecipe} runs. */
export interface RunOptions {
  /** Where the recipe's relative paths begin. */
  readonly folder: string;
  /** Takes the place of the recipe's output. */
  readonly output?: string | undefined;
  /** Takes the place of the recipe's `data.text` or `data.examples`; of parallel text, the folder that its files are in. */
  readonly text?: string | undefined;
  /** Takes the place of the recipe's. */
  readonly precision?: Precision | undefined;
  /** Go on from the newest checkpoint in the output folder. Default: begin, and refuse a folder that has any. */
  readonly resume?: boolean | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TrainingProgress) => void;
  /** Hears what a person should know of and is no fault. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Scores the folder that was written on what was held out of a file of examples. */
  readonly score?: (written: ScoredRun) => Promise<RunResult["scores"]>;
}

/** What {@link RunOptions.score} is given. */
export interface ScoredRun {
  readonly recipe: Recipe;
  readonly folder: string;
  readonly held: Examples;
  readonly heldLoss: number;
}

/** What a run came to. */
export interface RunResult {
  /** The folder of the result. */
  readonly output: string;
  readonly steps: number;
  /** Of the last update. */
  readonly loss: number;
  /** The update whose weights were saved: the last, or the best where that is kept. */
  readonly keptStep: number;
  /** The update after which an evaluation gave the lowest loss, and that loss; absent where nothing was evaluated. */
  readonly bestStep?: number;
  readonly bestLoss?: number;
  /** Over all that is held out, with the weights that were saved. */
  readonly validationLoss: number | undefined;
  /** By their names. */
  readonly scores?: Readonly<Record<string, unknown>> | undefined;
}

/** What {@link runTraining} runs: a training, or the tuning of a checkpoint. */
export interface RunnableTraining extends AsyncIterable<TrainingProgress> {
  readonly trainer: Pick<Trainer, "stepsDone" | "stepsTold" | "best" | "keptStep">;
  /** Mean loss over all that is held out. */
  evaluate(): Promise<number | undefined>;
  /** Everything to go on from. */
  checkpoint(): Promise<FilesToWrite>;
  /** The result; asked for last. */
  files(): Promise<FilesToWrite>;
}

/** Where and how {@link runTraining} writes. */
export interface TrainingRun {
  /** A folder. */
  readonly output: string;
  /** A file that says what is run. */
  readonly description: { readonly name: string; readonly content: unknown };
  readonly checkpoint?: { readonly every?: number | undefined; readonly keep?: number | undefined } | undefined;
  /** The checkpoint that the training goes on from. */
  readonly from: CheckpointFolder | undefined;
  /** What it is trained on. */
  readonly data: DataRecord;
  readonly onProgress?: ((progress: TrainingProgress) => void) | undefined;
  /** Hears what was changed in description and data since the run began. */
  readonly onNote?: ((note: string) => void) | undefined;
}

/** A line of log.jsonl. */
interface LogLine {
  readonly step: number;
  readonly loss: number;
  readonly losses?: Readonly<Record<string, number>>;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly lossScale?: number;
  readonly overflows?: number;
  readonly tokensPerSecond: number;
  readonly validationLoss?: number;
  readonly validationLosses?: Readonly<Record<string, number>>;
  /** Beside an evaluation: the best so far. */
  readonly bestStep?: number;
  readonly bestLoss?: number;
  /** In the last line: why it ended, and the update whose weights were saved. */
  readonly finished?: TrainingProgress["finished"];
  readonly keptStep?: number;
}

const LOG = "log.jsonl";
const DEFAULT_CHECKPOINT_EVERY = 250;
const DEFAULT_KEEP = 2;

/**
 * Trains what a recipe says and leaves a folder in the Hub's format: config.json, model.safetensors, tokenizer.json, generation_config.json,
 * beside the recipe, log.jsonl, curves.svg and the checkpoints. Throws `USAGE`, `BAD_FILE`, `DIVERGED`, and `ABORTED` after a checkpoint was
 * written, so that a run that was stopped goes on where it was.
 */
export async function trainRecipe(device: Device, recipe: unknown, options: RunOptions): Promise<RunResult> {
  const given = parseRecipe(recipe);
  const parsed = options.precision === undefined ? given : { ...given, precision: options.precision };
  const output = resolve(options.folder, options.output ?? parsed.output);
  const { text } = options;
  const used = text === undefined ? parsed : { ...parsed, data: dataAt(parsed.data, resolve(text)) };
  const begun = await beginRun(output, options.resume ?? false);
  try {
    return await runRecipe(device, { parsed, used, output, latest: begun.latest }, options);
  } finally {
    await begun.end();
  }
}

/** A recipe as it was given, and with its data where it is. */
interface RecipeRun {
  readonly parsed: Recipe;
  readonly used: Recipe;
  readonly output: string;
  readonly latest: CheckpointFolder | undefined;
}

async function runRecipe(
  device: Device,
  { parsed, used, output, latest }: RecipeRun,
  options: RunOptions,
): Promise<RunResult> {
  const data = await recordData(recipeFiles(used, options.folder));
  const training = await Training.open(device, used, {
    readText: (path) => readUtf8(resolve(options.folder, path)),
    openFile: (path) => diskFile(resolve(options.folder, path)),
    signal: options.signal,
    onNote: options.onNote,
    ...(latest ? { from: await folderSource(latest.path) } : {}),
  });
  try {
    // The recipe as it was given: a path of this machine would tell nobody else where the text is.
    const result = await runTraining(training, {
      ...{ output, description: { name: "recipe.json", content: parsed }, checkpoint: parsed.checkpoint },
      ...{ from: latest, data, onProgress: options.onProgress, onNote: options.onNote },
    });
    const { held } = training;
    const heldLoss = result.validationLoss;
    if (!held || heldLoss === undefined || !options.score) return result;
    return { ...result, scores: await options.score({ recipe: parsed, folder: output, held, heldLoss }) };
  } finally {
    await training.dispose();
  }
}

/** The files that a recipe reads, by what they are for. */
function recipeFiles({ data, tokenizer }: Recipe, folder: string): Record<string, string> {
  const uses = ["text", "examples", "source", "target", "validation", "validationSource", "validationTarget"];
  const named = Object.entries(data).filter(([use]) => uses.includes(use));
  if (tokenizer.type === "file") named.push(["tokenizer", tokenizer.path]);
  return Object.fromEntries(named.map(([use, path]) => [use, resolve(folder, String(path))]));
}

/** A recipe's data elsewhere: at `path`, or in the folder `path` where it is parallel text. Throws `USAGE` where a grammar writes it. */
function dataAt(data: Recipe["data"], path: string): Recipe["data"] {
  if ("text" in data) return { ...data, text: path };
  if ("examples" in data) return { ...data, examples: path };
  if ("grammar" in data) {
    throw new HeedError("USAGE", `train: data.grammar ${data.grammar} reads no file; got ${path}. Leave --data out.`);
  }
  const { buffer, skipBad, ...sides } = data;
  const elsewhere = Object.entries(sides).map(([side, name]) => [side, resolve(path, name)]);
  return { ...data, ...Object.fromEntries(elsewhere) };
}

/** Trains to the end, with log, curves, checkpoints and the result in a folder; see {@link trainRecipe} for what it throws. */
export async function runTraining(training: RunnableTraining, options: TrainingRun): Promise<RunResult> {
  const run = new Run(training, options);
  if (options.from) await run.restoreLog();
  return run.train();
}

/** A run that has its output folder for itself. */
export interface BegunRun {
  /** The checkpoint that it goes on from. */
  readonly latest: CheckpointFolder | undefined;
  /** Lets other runs write there. */
  end(): Promise<void>;
}

/** Takes `output` for a run. Throws `USAGE` where another run is at work there, for a folder that holds a run, or none to go on with. */
export async function beginRun(output: string, resume: boolean): Promise<BegunRun> {
  // No folder is made for a run that has nothing to go on from.
  if (resume) await checkStart(output, resume);
  const lock = await lockFolder(output);
  try {
    return { latest: await startingPoint(output, resume), end: () => lock.release() };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Throws what {@link beginRun} would, and takes nothing. */
export async function checkStart(output: string, resume: boolean): Promise<void> {
  await checkUnlocked(output);
  await startingPoint(output, resume);
}

/** The checkpoint that a run in `output` goes on from. Throws `USAGE` for a folder that holds a run, or none to go on with. */
async function startingPoint(output: string, resume: boolean): Promise<CheckpointFolder | undefined> {
  const checkpoints = join(output, "checkpoints");
  const found = await listCheckpoints(checkpoints);
  const model = found.length === 0 && !resume && (await firstModelFile(output));
  if (model) {
    throw new HeedError(
      "USAGE",
      `train: ${output} already holds a model (${model}), which the result would overwrite. Choose another output, or remove the folder.`,
    );
  }
  if (!resume && found.length > 0) {
    throw new HeedError(
      "USAGE",
      `train: ${output} already holds a run with ${found.length} checkpoints. Go on with --resume, choose another output, or remove the folder.`,
    );
  }
  if (resume && found.length === 0) {
    throw new HeedError("USAGE", `train: --resume needs a checkpoint; got none in ${checkpoints}. Leave --resume out.`);
  }
  return found.at(-1);
}

/** Files that a folder with a model has one of. */
const MODEL_FILES = /^(model.*\.safetensors(\.index\.json)?|pytorch_model.*\.bin(\.index\.json)?|.+\.gguf)$/;

async function firstModelFile(folder: string): Promise<string | undefined> {
  const names = await readdir(folder).catch(() => []);
  return names.find((name) => MODEL_FILES.test(name));
}

/** A training in its output folder. */
class Run {
  readonly #training: RunnableTraining;
  readonly #options: TrainingRun;
  readonly #output: string;
  #log: LogLine[] = [];
  #saved = -1;

  constructor(training: RunnableTraining, options: TrainingRun) {
    this.#training = training;
    this.#options = options;
    this.#output = options.output;
  }

  /** Takes over the log up to the checkpoint: what was logged after it will happen again, and a kill may have cut the last line. */
  async restoreLog(): Promise<void> {
    const text = await readUtf8(join(this.#output, LOG)).catch(() => "");
    const lines = text.split("\n").flatMap((line): LogLine[] => {
      try {
        return [JSON.parse(line) as LogLine];
      } catch {
        return [];
      }
    });
    const { stepsDone, stepsTold } = this.#training.trainer;
    this.#saved = stepsDone;
    this.#log = lines.filter(({ step }) => step <= stepsTold);
  }

  async train(): Promise<RunResult> {
    const { description, checkpoint, from, data, onProgress, onNote } = this.#options;
    const every = checkpoint?.every ?? DEFAULT_CHECKPOINT_EVERY;
    await removeUnfinished(this.#output);
    const changed = from ? await this.#changed() : [];
    if (changed.length > 0) {
      onNote?.(
        `the run goes on with another ${changed.join(", ")} than it began with; ${description.name} says the new`,
      );
    }
    const otherData = from && (await changedData(from.path, data));
    if (otherData) onNote?.(otherData);
    await replaceFile(join(this.#output, description.name), `${JSON.stringify(description.content, null, 2)}\n`);
    await this.#writeLog();
    try {
      for await (const progress of this.#training) {
        await this.#append(logLine(progress));
        onProgress?.(progress);
        if (progress.step % every === 0) await this.#checkpoint();
      }
    } catch (error) {
      if (error instanceof HeedError && error.code === "ABORTED") await this.#checkpoint();
      // What led to the fault is worth seeing, and the fault worth telling of rather than a log that can't be written.
      else await this.#writeLog().catch(() => {});
      throw error;
    }
    await this.#checkpoint();
    const validationLoss = await this.#training.evaluate();
    for (const [name, content] of await this.#training.files()) await replaceFile(join(this.#output, name), content);
    const { stepsDone, keptStep, best } = this.#training.trainer;
    const lowest = best && { bestStep: best.step, bestLoss: best.loss };
    const loss = this.#log.at(-1)?.loss ?? Number.NaN;
    return { output: this.#output, steps: stepsDone, loss, validationLoss, keptStep, ...lowest };
  }

  /** Fields of the description that are not what they were. */
  async #changed(): Promise<string[]> {
    const { name, content } = this.#options.description;
    const before = await readJsonFile(join(this.#output, name)).catch(() => undefined);
    if (!isObject(before)) return [];
    const now = JSON.parse(JSON.stringify(content)) as JsonObject;
    const names = new Set([...Object.keys(before), ...Object.keys(now)]);
    return [...names].filter((field) => JSON.stringify(before[field]) !== JSON.stringify(now[field]));
  }

  /** Lets people follow the log; a line that can't be written now is written with the next checkpoint, which tells why if it can't. */
  async #append(line: LogLine): Promise<void> {
    this.#log.push(line);
    await appendFile(join(this.#output, LOG), `${JSON.stringify(line)}\n`).catch(() => {});
  }

  async #checkpoint(): Promise<void> {
    const step = this.#training.trainer.stepsDone;
    if (step === this.#saved) return;
    const keep = this.#options.checkpoint?.keep ?? DEFAULT_KEEP;
    // First the log: lines beyond the newest checkpoint are dropped on resuming, missing ones would never come back.
    await this.#writeLog();
    const data = `${JSON.stringify(this.#options.data, null, 1)}\n`;
    const files = new Map([...(await this.#training.checkpoint()), [DATA_RECORD, data]]);
    await writeCheckpoint(join(this.#output, "checkpoints"), step, files, keep);
    this.#saved = step;
  }

  async #writeLog(): Promise<void> {
    const text = this.#log.map((line) => `${JSON.stringify(line)}\n`).join("");
    await replaceFile(join(this.#output, LOG), text);
    const training = this.#log.map(({ step, loss }): CurvePoint => ({ step, loss }));
    const validation = this.#log.flatMap(({ step, validationLoss: loss }) =>
      loss === undefined ? [] : [{ step, loss }],
    );
    await replaceFile(join(this.#output, "curves.svg"), curvesSvg("Loss by steps", { training, validation }));
  }
}

function logLine(progress: TrainingProgress): LogLine {
  const { step, loss, losses, learningRate, gradientNorm, lossScale, overflows, tokens, elapsedMs } = progress;
  const { validationLoss, validationLosses, bestStep, bestLoss, finished, keptStep } = progress;
  const tokensPerSecond = Math.round((1000 * tokens) / elapsedMs);
  return {
    ...{ step, loss, ...(losses && { losses }), learningRate, gradientNorm },
    ...{ ...(lossScale !== undefined && { lossScale }), ...(overflows !== undefined && { overflows }) },
    ...{ tokensPerSecond, ...(validationLoss !== undefined && { validationLoss }) },
    ...{ ...(validationLosses && { validationLosses }), ...(bestStep !== undefined && { bestStep, bestLoss }) },
    ...(finished && { finished, keptStep }),
  };
}

/** A text file, unpacked where its name ends in `.gz`. Throws `BAD_FILE`. */
async function readUtf8(path: string): Promise<string> {
  try {
    const bytes = await readFile(path);
    return new TextDecoder("utf-8", { fatal: true }).decode(path.endsWith(".gz") ? gunzipSync(bytes) : bytes);
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new HeedError(
      "BAD_FILE",
      `train: ${path} must be a text file in UTF-8; got ${got}. Check the path in the recipe, or name another file with --data.`,
      { cause },
    );
  }
}

/** Reads a recipe file, and says where its relative paths begin. Throws `BAD_FILE`. */
export async function readRecipeFile(path: string): Promise<{ readonly recipe: unknown; readonly folder: string }> {
  return { recipe: await readJsonFile(path), folder: dirname(resolve(path)) };
}
