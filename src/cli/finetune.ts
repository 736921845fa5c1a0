import { join, resolve } from "node:path";
import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { Device } from "../gpu/device.ts";
import { TIERS, type Tier } from "../gpu/tiers.ts";
import { folderSource } from "../sources/folder_node.ts";
import { openSource } from "../sources/open_source_node.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import { type Keep, KEEPS } from "../train/best_weights.ts";
import { Finetuning } from "../train/finetune.ts";
import { defaultLength } from "../train/finetune_models.ts";
import { diskFile } from "../train/data/files_node.ts";
import type { CheckpointFolder } from "../train/checkpoint_node.ts";
import { recordData } from "../train/data_record_node.ts";
import { knownLabels, readExamples, streamExamples } from "../train/examples.ts";
import { type Precision, PRECISIONS } from "../train/mixed.ts";
import { beginRun, checkStart, type RunnableTraining, runTraining } from "../train/run_node.ts";
import { readKeptRun } from "../train/run_record.ts";
import { type Task, TASKS, tasksThatHeed } from "../train/tasks.ts";
import { EXIT } from "./exit_codes.ts";
import { checkFlags } from "./finetune_flags.ts";
import { scoreFolder, scoresLine } from "./finetune_scores.ts";
import { type GpuOptions, openGpu } from "./gpu.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";
import { keptLine, trainingProgress } from "./training_progress.ts";

interface CommandOptions extends GpuOptions {
  model: string;
  task: Task;
  data: string;
  output: string;
  eval?: string;
  checkpointEvery?: number;
  resume?: boolean;
  train: string;
  lora?: boolean;
  rank?: number;
  alpha?: number;
  loraDropout?: number;
  targets?: string;
  steps: number;
  batch: number;
  length?: number;
  learningRate: number;
  warmup: number;
  maskRate?: number;
  dropout?: number;
  labelSmoothing?: number;
  accumulate?: number;
  recompute?: boolean;
  precision: Precision;
  buffer?: number;
  evaluateEvery?: number;
  patience?: number;
  keep?: Keep;
  seed: number;
  skipBad?: boolean;
  dtype: "f32" | "f16" | "q8_0" | "q4_0";
  tier?: Tier;
  json?: boolean;
}

const EXAMPLES = `
Data by task (files may end in .gz):
  lm, masked-lm          a text a line, or .jsonl with {"text"}
  masked-translation     the same, for an encoder–decoder: a run of tokens masked on both sides (MASS)
  span-corruption        the same: spans behind sentinels (T5)
  next-sentence          a sentence a line, an empty line between documents, or .jsonl with {"sentences": […]}
  pretraining            the same: masked words and the next sentence at once (BERT)
  completion, prefix-lm  .jsonl with {"prompt", "completion"}; the completion alone is predicted
  classification         .tsv of text and label, or .jsonl with {"text", "label"}
  labels                 .jsonl with {"words": […], "labels": […]}
  answer                 a file in SQuAD's format, 1.1 or 2.0
  translation            .tsv of source and target, or .jsonl with {"source", "target"}
A .tsv may begin with a header that has these names, in any order and among others.

The result is a folder in the Hub's format, with log.jsonl, curves.svg and checkpoints beside the model; with --lora, its folder adapter/ holds the adapter in PEFT's format, and the model has it merged. With --lora --dtype q8_0 or q4_0 the base is kept quantised while the adapter is trained, and the model is written in f32.
A file that is too large for memory is read as it is needed with --buffer: so many lines at a time, shuffled among each other.
--resume keeps the checkpoint's labels, however the data has changed, and says if it has. Another model, task or adapter is refused; other steps and rates are not.

Flags that would do nothing are refused. All mean something for every task, but for
  --mask-rate     ${tasksThatHeed("maskRate").join(", ")}
  --train head    ${tasksThatHeed("head").join(", ")}
  --buffer        every task but answer
--rank, --alpha, --lora-dropout, --targets and --dtype q8_0 or q4_0 need --lora; --evaluate-every, --patience and --keep best need --eval.

Examples:
  $ heed finetune --model ./base --task lm --data text.txt --output ./tuned
  $ heed finetune --model ./base --task completion --data pairs.jsonl --lora --rank 8 --targets q_proj,v_proj --output ./tuned
  $ heed finetune --model ./base --task lm --data text.jsonl.gz --buffer 10000 --lora --dtype q8_0 --output ./tuned
  $ heed finetune --model ./encoder --task classification --data train.tsv --eval dev.tsv --train head --output ./classifier
  $ heed finetune --model ./translator --task translation --data pairs.tsv --output ./tuned --resume

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted (a checkpoint is written first).`;

const COUNT = { min: 1, integer: true };

/** The command `heed finetune`; `done` receives the exit code. */
export function finetuneCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("finetune")
    .description("Tune a published checkpoint on your data: whole, in part, or with a LoRA adapter")
    .requiredOption("--model <spec>", "hf:owner/name[@revision], a URL, or a folder")
    .addOption(new Option("--task <task>", "what to tune it for").choices(TASKS).makeOptionMandatory())
    .requiredOption("--data <file>", "examples to train on")
    .requiredOption("--output <folder>", "write the result there")
    .option("--eval <file>", "held-out examples: their loss while it trains, and scores at the end")
    .option("--train <what>", "all, head, or a pattern of parameter names such as 'layers\\.(4|5)\\.'", "all")
    .option("--lora", "train an adapter instead of the weights")
    .option("--rank <n>", "of the adapter; 8 unless given", numberIn(COUNT))
    .option("--alpha <n>", "of the adapter; 16 unless given", numberIn({ above: 0 }))
    .option("--lora-dropout <p>", "of the adapter's input; 0 unless given", numberIn({ min: 0, max: 0.99 }))
    .option("--targets <list>", "linear layers with an adapter, such as q_proj,v_proj; all unless given")
    .option("--steps <n>", "updates", numberIn(COUNT), 500)
    .option("--batch <n>", "examples of an update", numberIn(COUNT), 16)
    .option(
      "--length <n>",
      "tokens of an example at most; 128 unless given, or the model's context where that is shorter",
      numberIn(COUNT),
    )
    .option("--learning-rate <r>", "at its highest", numberIn({ above: 0 }), 2e-4)
    .option("--warmup <n>", "updates until then", numberIn({ min: 0, integer: true }), 20)
    .option(
      "--mask-rate <r>",
      "share of tokens that are hidden; 0.15 unless given, 0.5 for masked-translation",
      numberIn({ above: 0, max: 1 }),
    )
    .option("--dropout <p>", "where the papers drop, attention too; 0 unless given", numberIn({ min: 0, max: 0.99 }))
    .option(
      "--label-smoothing <e>",
      "share of a target that is spread over all; 0 unless given",
      numberIn({ min: 0, max: 0.99 }),
    )
    .option("--accumulate <n>", "batches of an update; 1 unless given", numberIn(COUNT))
    .option("--recompute", "compute blocks again in backward instead of keeping them: less memory, more time")
    .addOption(
      new Option("--precision <p>", "mixed: products of f16 under a scaled loss").choices(PRECISIONS).default("f32"),
    )
    .option("--buffer <n>", "hold and shuffle so many lines of the data at a time; all unless given", numberIn(COUNT))
    .option("--evaluate-every <n>", "updates between evaluations", numberIn(COUNT))
    .option("--patience <n>", "stop after so many evaluations without a lower loss", numberIn(COUNT))
    .addOption(
      new Option(
        "--keep <which>",
        "weights of the result: those of the lowest held-out loss, or the last; best with --patience, else last",
      ).choices(KEEPS),
    )
    .option("--checkpoint-every <n>", "updates between checkpoints; 250 unless given", numberIn(COUNT))
    .option("--resume", "go on from the newest checkpoint in the output folder")
    .option("--seed <n>", "same seed, same adapter: same result", numberIn({ min: 0, integer: true }), 0)
    .option("--skip-bad", "leave out lines that are no examples")
    .addOption(
      new Option(
        "--dtype <dtype>",
        "of the result's matrices; q8_0 and q4_0, with --lora: of the base while it is tuned",
      )
        .choices(["f32", "f16", "q8_0", "q4_0"])
        .default("f32"),
    )
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--json", "print one JSON object when done")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText("after", EXAMPLES)
    .action(async (options: CommandOptions) => {
      done(await finetune(options, signal));
    });
}

async function finetune(options: CommandOptions, signal: AbortSignal): Promise<number> {
  checkFlags(options);
  const [output, resume] = [resolve(options.output), options.resume ?? false];
  // Before a GPU is looked for.
  await checkStart(output, resume);
  const gpu = await openGpu(options);
  const { latest, end } = await beginRun(output, resume);
  try {
    return await tune(options, { gpu, output, latest, signal });
  } finally {
    await end();
  }
}

interface TuneRun {
  readonly gpu: GPU;
  readonly output: string;
  readonly latest: CheckpointFolder | undefined;
  readonly signal: AbortSignal;
}

async function tune(options: CommandOptions, { gpu, output, latest, signal }: TuneRun): Promise<number> {
  const { task, skipBad = false } = options;
  const source = await openSource(options.model, {});
  const checkpoint = await openCheckpoint(source, { signal });
  const tokenizers = await openTokenizers(checkpoint, { signal });
  if (!tokenizers) throw new HeedError("USAGE", `finetune: a model with a tokenizer is needed; got ${options.model}.`);
  const from = latest && (await folderSource(latest.path));
  const kept = from && (await readKeptRun(from, task));
  const known = knownLabels(checkpoint.config, kept?.labels);
  const { length = defaultLength(task, checkpoint.config) } = options;
  const reading = { task, tokenizers, length, ...known, skipBad, note: (text: string) => note(`heed: ${text}`) };
  const training = { ...reading, isTraining: true };
  const data = await recordData({ data: options.data, eval: options.eval });
  const items =
    options.buffer === undefined
      ? (await readExamples(diskFile(options.data), training)).items
      : await streamExamples(diskFile(options.data), training, options.buffer);
  const held =
    options.eval === undefined
      ? undefined
      : await readExamples(diskFile(options.eval), { ...reading, isTraining: false });
  const device = await Device.request({ gpu, tier: options.tier });
  const progress = trainingProgress();
  try {
    const tuning = await Finetuning.open(device, checkpoint, {
      ...pick({ ...options, length }),
      ...{ tokenizer: tokenizers.source, items, signal },
      ...(held ? { validation: held.items } : {}),
      ...(reading.names.size > 0 ? { labels: [...reading.names.keys()] } : {}),
      ...(from ? { from } : {}),
    });
    const run = runTraining(runnable(tuning, options), {
      ...{ output, description: { name: "finetune.json", content: described(options) }, from: latest, data },
      checkpoint: { every: options.checkpointEvery },
      onProgress: (update) => progress.update(update),
      onNote: (text) => note(`heed: ${text}`),
    });
    const result = await run.finally(() => tuning.dispose());
    progress.stop();
    const heldLoss = result.validationLoss;
    const scores =
      held && heldLoss !== undefined && tuning.canMerge
        ? await scoreFolder(device, {
            task,
            folder: output,
            held,
            heldLoss,
            length,
            maskRate: options.maskRate,
            signal,
          })
        : undefined;
    printLine(options.json ? JSON.stringify({ ...result, ...(scores ? { scores } : {}) }) : output);
    const loss = heldLoss === undefined ? "" : `, held-out loss ${heldLoss.toFixed(4)}`;
    if (tuning.lora)
      note(
        `heed: the adapter is in ${join(output, "adapter")}${tuning.canMerge ? "" : "; a base in blocks of GGUF can't have it merged"}`,
      );
    const end = `${loss}${scoresLine(scores)}${keptLine(result)}`;
    note(`heed: ${result.steps} steps, loss ${result.loss.toFixed(4)}${end}`);
    return EXIT.OK;
  } finally {
    progress.stop();
    device.dispose();
  }
}

/** What was asked for, to be kept beside the result; where that is written and how it is told are no part of it. */
function described(options: CommandOptions): Record<string, unknown> {
  const { output: _, resume: __, json: ___, ...kept } = options;
  return kept;
}

/** A tuning whose result is a folder that works alone: with the tokenizer, and the adapter where one is trained. */
function runnable(tuning: Finetuning, { lora, model, dtype }: CommandOptions): RunnableTraining {
  let heldLoss: number | undefined;
  return {
    trainer: tuning.trainer,
    async *[Symbol.asyncIterator]() {
      for await (const update of tuning) {
        heldLoss = update.validationLoss;
        yield update;
      }
    },
    // The weights that are saved, the best or the last, were evaluated in their turn: once is enough.
    async evaluate() {
      const { best, keptStep } = tuning.trainer;
      return best?.step === keptStep ? best.loss : (heldLoss ?? tuning.evaluate());
    },
    checkpoint: () => tuning.checkpoint(),
    async files() {
      const files = new Map<string, readonly Uint8Array[] | string>();
      const adapter = lora ? await tuning.adapterFiles(model) : [];
      for (const [name, content] of adapter) files.set(`adapter/${name}`, content);
      if (!tuning.canMerge) return files;
      const written = dtype === "f16" ? "f16" : "f32";
      for (const [name, content] of await tuning.files(written)) files.set(name, content);
      return files;
    },
  };
}

function pick(options: CommandOptions & { readonly length: number }) {
  const {
    task,
    train,
    lora,
    rank,
    alpha,
    loraDropout,
    targets,
    steps,
    batch,
    length,
    maskRate,
    labelSmoothing,
    accumulate,
    recompute,
    precision,
    dropout,
    dtype,
    evaluateEvery,
    patience,
    keep,
    seed,
  } = options;
  const adapter = {
    ...(rank === undefined ? {} : { rank }),
    ...(alpha === undefined ? {} : { alpha }),
    ...(loraDropout === undefined ? {} : { dropout: loraDropout }),
    ...(targets === undefined ? {} : { targets: targets.split(",") }),
  };
  return {
    ...{ task, steps, batch, length, maskRate, evaluateEvery, patience, keep, seed },
    ...{ labelSmoothing, accumulate, recompute, precision },
    ...(dropout === undefined ? {} : { dropout: { hidden: dropout, attention: dropout } }),
    // f16 is what is written; a base that is kept in it would be merged from what f16 rounds.
    ...(dtype === "q8_0" || dtype === "q4_0" ? { base: dtype } : {}),
    train: train === "all" || train === "head" ? train : new RegExp(train),
    ...(lora ? { lora: adapter } : {}),
    optimizer: { type: "adamw", weightDecay: 0.01, clip: 1 },
    schedule: { type: "linear", learningRate: options.learningRate, warmup: Math.min(options.warmup, steps) },
  } as const;
}
