import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { Device } from "../gpu/device.ts";
import { TIERS, type Tier } from "../gpu/tiers.ts";
import { openSource } from "../sources/open_source_node.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { replaceFile } from "../train/checkpoint_node.ts";
import { diskFile } from "../train/data/files_node.ts";
import { Misfit } from "../train/data/lines.ts";
import { readJsonl, readText, readTsv } from "../train/data/readers.ts";
import { FINETUNE_TASKS, Finetuning, type FinetuneTask } from "../train/finetune.ts";
import type { TokenItem } from "../train/item_batches.ts";
import { classItem, completionItem, labelledItem, textItem, wordsItem } from "../train/task_items.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openGpu } from "./gpu.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";
import { trainingProgress } from "./training_progress.ts";

interface CommandOptions extends GpuOptions {
  model: string;
  task: FinetuneTask;
  data: string;
  output: string;
  validation?: string;
  train: string;
  lora?: boolean;
  rank?: number;
  alpha?: number;
  loraDropout?: number;
  targets?: string;
  steps: number;
  batch: number;
  length: number;
  learningRate: number;
  warmup: number;
  maskRate?: number;
  evaluateEvery?: number;
  patience?: number;
  seed: number;
  skipBad?: boolean;
  dtype: "f32" | "f16";
  tier?: Tier;
  json?: boolean;
}

const EXAMPLES = `
Data by task (files may end in .gz):
  lm, masked-lm          a text a line, or .jsonl with {"text"}
  completion, prefix-lm  .jsonl with {"prompt", "completion"}; the completion alone is predicted
  classification         .tsv of text and label, or .jsonl with {"text", "label"}
  labels                 .jsonl with {"words": […], "labels": […]}

The result is a folder in the Hub's format; with --lora, its folder adapter/ holds the adapter in PEFT's format, and the model has it merged.

Examples:
  $ heed finetune --model ./base --task lm --data text.txt --output ./tuned
  $ heed finetune --model ./base --task completion --data pairs.jsonl --lora --rank 8 --targets q_proj,v_proj --output ./tuned
  $ heed finetune --model ./encoder --task classification --data train.tsv --validation dev.tsv --train head --output ./classifier

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

const COUNT = { min: 1, integer: true };

/** The command `heed finetune`; `done` receives the exit code. */
export function finetuneCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("finetune")
    .description("Tune a published checkpoint on your data: whole, in part, or with a LoRA adapter")
    .requiredOption("--model <spec>", "hf:owner/name[@revision], a URL, or a folder")
    .addOption(new Option("--task <task>", "what to tune it for").choices(FINETUNE_TASKS).makeOptionMandatory())
    .requiredOption("--data <file>", "examples to train on")
    .requiredOption("--output <folder>", "write the result there")
    .option("--validation <file>", "held-out examples")
    .option("--train <what>", "all, head, or a pattern of parameter names such as 'layers\\.(4|5)\\.'", "all")
    .option("--lora", "train an adapter instead of the weights")
    .option("--rank <n>", "of the adapter; 8 unless given", numberIn(COUNT))
    .option("--alpha <n>", "of the adapter; 16 unless given", numberIn({ above: 0 }))
    .option("--lora-dropout <p>", "of the adapter's input; 0 unless given", numberIn({ min: 0, max: 0.99 }))
    .option("--targets <list>", "linear layers with an adapter, such as q_proj,v_proj; all unless given")
    .option("--steps <n>", "updates", numberIn(COUNT), 500)
    .option("--batch <n>", "examples of an update", numberIn(COUNT), 16)
    .option("--length <n>", "tokens of an example at most", numberIn(COUNT), 128)
    .option("--learning-rate <r>", "at its highest", numberIn({ above: 0 }), 2e-4)
    .option("--warmup <n>", "updates until then", numberIn({ min: 0, integer: true }), 20)
    .option("--mask-rate <r>", "share of words that masked-lm hides; 0.15 unless given", numberIn({ above: 0, max: 1 }))
    .option("--evaluate-every <n>", "updates between evaluations", numberIn(COUNT))
    .option("--patience <n>", "stop after so many evaluations without a lower loss", numberIn(COUNT))
    .option("--seed <n>", "same seed, same adapter: same result", numberIn({ min: 0, integer: true }), 0)
    .option("--skip-bad", "leave out lines that are no examples")
    .addOption(new Option("--dtype <dtype>", "of the result's matrices").choices(["f32", "f16"]).default("f32"))
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--json", "print one JSON object when done")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText("after", EXAMPLES)
    .action(async (options: CommandOptions) => {
      done(await finetune(options, signal));
    });
}

async function finetune(options: CommandOptions, signal: AbortSignal): Promise<number> {
  const gpu = await openGpu(options);
  const source = await openSource(options.model, {});
  const checkpoint = await openCheckpoint(source, { signal });
  const tokenizer = (await openTokenizers(checkpoint, { signal }))?.source;
  if (!tokenizer) throw new HeedError("USAGE", `finetune: a model with a tokenizer is needed; got ${options.model}.`);
  const names = new Map<string, number>();
  const items = await readItems(options.data, { options, tokenizer, names, isTraining: true });
  const { validation: held } = options;
  const validation =
    held === undefined ? undefined : await readItems(held, { options, tokenizer, names, isTraining: false });
  const device = await Device.request({ gpu, tier: options.tier });
  const progress = trainingProgress();
  try {
    const tuning = await Finetuning.open(device, checkpoint, {
      ...pick(options),
      ...{ tokenizer, items, signal },
      ...(validation ? { validation } : {}),
      ...(names.size > 0 ? { labels: [...names.keys()] } : {}),
    });
    try {
      let loss = Number.NaN;
      for await (const update of tuning) {
        progress.update(update);
        loss = update.loss;
      }
      progress.stop();
      const validationLoss = await tuning.evaluate();
      await save(tuning, options, source);
      const result = { output: options.output, steps: tuning.trainer.stepsDone, loss, validationLoss };
      printLine(options.json ? JSON.stringify(result) : options.output);
      note(
        `heed: ${result.steps} steps, loss ${loss.toFixed(4)}${validationLoss === undefined ? "" : `, held-out loss ${validationLoss.toFixed(4)}`}`,
      );
      return EXIT.OK;
    } finally {
      await tuning.dispose();
    }
  } finally {
    progress.stop();
    device.dispose();
  }
}

function pick(options: CommandOptions) {
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
    evaluateEvery,
    patience,
    seed,
  } = options;
  const adapter = {
    ...(rank === undefined ? {} : { rank }),
    ...(alpha === undefined ? {} : { alpha }),
    ...(loraDropout === undefined ? {} : { dropout: loraDropout }),
    ...(targets === undefined ? {} : { targets: targets.split(",") }),
  };
  return {
    ...{ task, steps, batch, length, maskRate, evaluateEvery, patience, seed },
    train: train === "all" || train === "head" ? train : new RegExp(train),
    ...(lora ? { lora: adapter } : {}),
    optimizer: { type: "adamw", weightDecay: 0.01, clip: 1 },
    schedule: { type: "linear", learningRate: options.learningRate, warmup: Math.min(options.warmup, steps) },
  } as const;
}

async function save(
  tuning: Finetuning,
  { output, model, lora, dtype }: CommandOptions,
  source: { readText(name: string): Promise<string | undefined> },
): Promise<void> {
  await mkdir(lora ? join(output, "adapter") : output, { recursive: true });
  if (lora)
    for (const [name, content] of await tuning.adapterFiles(model))
      await replaceFile(join(output, "adapter", name), content);
  for (const [name, content] of await tuning.files(dtype)) await replaceFile(join(output, name), content);
  for (const name of [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "generation_config.json",
  ]) {
    const text = await source.readText(name);
    if (text !== undefined) await writeFile(join(output, name), text);
  }
}

interface ReadItemsOptions {
  readonly options: CommandOptions;
  readonly tokenizer: Tokenizer;
  /** Numbers of labels; training adds to them in the order in which they come. */
  readonly names: Map<string, number>;
  readonly isTraining: boolean;
}

async function readItems(
  path: string,
  { options, tokenizer, names, isTraining }: ReadItemsOptions,
): Promise<TokenItem[]> {
  const { task, length } = options;
  let skipped = 0;
  const reading = {
    skipBad: options.skipBad ?? false,
    onBad: (message: string) => {
      if (skipped++ < 5) note(message);
    },
  };
  const numberOf = (label: unknown): number => {
    const name = typeof label === "number" ? String(label) : label;
    if (typeof name !== "string") throw new Misfit("must have a label", JSON.stringify(label) ?? "none");
    const known = names.get(name);
    if (known === undefined && !isTraining) throw new Misfit("a held-out label must occur in training", name);
    if (known === undefined) names.set(name, names.size);
    return known ?? names.size - 1;
  };
  const text = (value: unknown): string => {
    if (typeof value !== "string") throw new Misfit("must have text", JSON.stringify(value) ?? "none");
    return value;
  };
  const makers: Record<FinetuneTask, (o: Readonly<Record<string, unknown>>) => TokenItem> = {
    lm: (o) => textItem(tokenizer, text(o["text"])),
    "masked-lm": (o) => wordsItem(tokenizer, text(o["text"]), length),
    completion: (o) => completionItem(tokenizer, text(o["prompt"]), text(o["completion"])),
    "prefix-lm": (o) => completionItem(tokenizer, text(o["prompt"]), text(o["completion"])),
    classification: (o) => classItem(tokenizer, text(o["text"]), numberOf(o["label"]), length),
    labels: (o) => {
      const { words, labels } = o;
      if (!Array.isArray(words) || !Array.isArray(labels) || words.length !== labels.length) {
        throw new Misfit("must have words and as many labels", JSON.stringify(o));
      }
      return labelledItem(tokenizer, words.map(text), labels.map(numberOf), length);
    },
  };
  const make = makers[task];
  const file = diskFile(path);
  const plain = path.replace(/\.gz$/, "");
  const examples = plain.endsWith(".jsonl")
    ? readJsonl(file, make, reading)
    : plain.endsWith(".tsv")
      ? readTsv(file, make, { ...reading, columns: ["text", "label"] })
      : readText(file, reading);
  const items: TokenItem[] = [];
  for await (const example of examples) {
    const item = typeof example === "string" ? make({ text: example }) : example;
    if (item.ids.length > 0) items.push(item);
  }
  if (skipped > 0) note(`heed: ${skipped} bad lines of ${path} were left out`);
  return items;
}
