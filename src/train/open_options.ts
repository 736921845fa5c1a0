import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { describeFaults } from "../core/faults.ts";
import type { Engine } from "../tasks/engine.ts";
import { BASE_DTYPES } from "./finetune_models.ts";
import type { CreateLoraOptions } from "./lora.ts";
import type { FinetuneExamples, FinetuningOptions } from "./open_finetuning.ts";
import { checkSchedule } from "./schedule.ts";
import { EVALUATIONS, LEARNING_RATE, SETTINGS, share, whole } from "./settings.ts";
import { checkSetting, type Task } from "./tasks.ts";
import type { TrainingOptions } from "./training.ts";

const text = v.string();
const texts = v.array(text);
const name = v.union([text, v.number()]);

/** Examples are checked as far as types go: what they say is checked by their number. */
const examples = v.variant("task", [
  v.strictObject({ task: v.picklist(["lm", "masked-lm", "masked-translation", "span-corruption"]), texts }),
  v.strictObject({
    task: v.picklist(["completion", "prefix-lm"]),
    pairs: v.array(v.object({ prompt: text, completion: text })),
  }),
  v.strictObject({ task: v.literal("translation"), pairs: v.array(v.object({ source: text, target: text })) }),
  v.strictObject({ task: v.literal("classification"), texts: v.array(v.object({ text, label: name })) }),
  v.strictObject({
    task: v.literal("labels"),
    sentences: v.array(v.object({ words: texts, labels: v.array(name) })),
  }),
  v.strictObject({
    task: v.literal("answer"),
    questions: v.array(
      v.object({ question: text, context: text, answers: v.array(v.object({ text, start: whole(0) })) }),
    ),
  }),
  v.strictObject({ task: v.picklist(["next-sentence", "pretraining"]), documents: v.array(texts) }),
]) satisfies v.GenericSchema<FinetuneExamples>;

const reading = {
  from: v.optional(v.looseObject({ open: v.function(), readText: v.function() })),
  signal: v.optional(v.instance(AbortSignal)),
};

const adapter = {
  rank: v.optional(whole(1)),
  alpha: v.optional(v.number()),
  rankStabilized: v.optional(v.boolean()),
  dropout: v.optional(share),
  targets: v.optional(v.union([text, texts])),
  seed: v.optional(whole(0)),
} satisfies Record<keyof CreateLoraOptions, v.GenericSchema>;

const finetuning = {
  ...SETTINGS,
  batch: v.optional(SETTINGS.batch),
  length: v.optional(SETTINGS.length),
  optimizer: v.optional(SETTINGS.optimizer),
  schedule: v.optional(SETTINGS.schedule),
  learningRate: v.optional(LEARNING_RATE),
  evaluateEvery: EVALUATIONS.every,
  patience: EVALUATIONS.patience,
  keep: EVALUATIONS.keep,
  heldOut: v.optional(examples),
  train: v.optional(v.union([v.picklist(["all", "head"]), v.instance(RegExp)])),
  lora: v.optional(v.strictObject(adapter)),
  base: v.optional(v.picklist(BASE_DTYPES)),
  ...reading,
} satisfies Record<keyof FinetuningOptions, v.GenericSchema>;

const training = {
  ...reading,
  readText: v.function(),
  openFile: v.optional(v.function()),
  onNote: v.optional(v.function()),
} satisfies Record<keyof TrainingOptions, v.GenericSchema>;

/** Throws `USAGE` for what `openTraining` does not understand in full, beside its recipe. */
export function checkTraining(engine: Engine, options: TrainingOptions): void {
  checkEngine("train", engine);
  checkOptions("train", training, options);
}

/** Throws `USAGE` for what `openFinetuning` does not understand in full, and for options that would do nothing. */
export function checkFinetuning(engine: Engine, given: FinetuneExamples, options: FinetuningOptions): void {
  checkEngine("finetune", engine);
  const result = v.safeParse(examples, given, { abortEarly: true });
  if (!result.success) {
    const faults = describeFaults(result.issues, "examples");
    throw fail(
      `examples must be {task, …} with those of the task; ${faults}. Each task has a field of its own, such as texts or pairs`,
    );
  }
  checkOptions("finetune", finetuning, options);
  checkTask(given.task, options);
  checkTogether(options);
}

function checkTask(task: Task, { heldOut, maskRate, train }: FinetuningOptions): void {
  const command = "finetune";
  if (maskRate !== undefined) checkSetting(task, "maskRate", { command, name: "maskRate" });
  if (train === "head") checkSetting(task, "head", { command, name: 'train "head"' });
  if (heldOut && heldOut.task !== task) throw fail(`what is held out must be for ${task}; got ${heldOut.task}`);
}

function checkTogether({ learningRate, schedule, lora, train = "all", ...options }: FinetuningOptions): void {
  if (schedule) checkSchedule(schedule);
  if (schedule && learningRate !== undefined) {
    throw fail(
      `learningRate does nothing beside schedule, which has its own; got ${learningRate}. Leave one of them out`,
    );
  }
  if (lora && train !== "all") {
    throw fail(
      `lora trains an adapter instead of the weights, and a fresh head beside it; got train ${String(train)} too. Leave one of them out`,
    );
  }
  const { heldOut, evaluateEvery, patience, keep } = options;
  const evaluating = Object.entries({ evaluateEvery, patience, ...(keep === "best" ? { "keep best": keep } : {}) });
  const [asked] = evaluating.flatMap(([option, value]) => (value === undefined ? [] : [option]));
  if (asked === undefined) return;
  if (!heldOut)
    throw fail(`${asked} needs heldOut, examples to evaluate on; got none. Add some, or leave ${asked} out`);
  if (evaluateEvery === undefined)
    throw fail(`${asked} needs evaluateEvery, the updates between evaluations; got none. Add it`);
}

function fail(message: string): HeedError {
  return new HeedError("USAGE", `finetune: ${message}.`);
}

function checkEngine(command: string, engine: unknown): void {
  const { open, device } = Object(engine) as Partial<Engine>;
  if (typeof open === "function" && device) return;
  throw new HeedError(
    "USAGE",
    `${command}: the first argument must be an engine; got ${engine === null ? "null" : typeof engine}. createEngine() gives one.`,
  );
}

function checkOptions(command: string, entries: v.ObjectEntries, options: unknown): void {
  const result = v.safeParse(v.strictObject(entries), options);
  if (result.success) return;
  throw new HeedError(
    "USAGE",
    `${command}: the options must be understood in full; ${describeFaults(result.issues, "options")}. There are ${Object.keys(entries).join(", ")}.`,
  );
}
