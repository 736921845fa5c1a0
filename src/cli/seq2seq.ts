import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import type { Engine } from "../tasks/engine.ts";
import type { GenerationResult } from "../tasks/generation.ts";
import type { Seq2SeqGenerateOptions, Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import type { Generation } from "../tasks/session.ts";
import { EXIT } from "./exit_codes.ts";
import { earlyStoppingOption } from "./generation_flags.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadWithAdapter, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { addCacheFlags, addCheckpointFlags, addGpuFlags } from "./model_flags.ts";
import { numberIn } from "./option_types.ts";
import { note, print, printLine } from "./output.ts";
import { countProgress } from "./progress.ts";

/** Options that `translate` and `summarize` share, as commander delivers them. */
export interface Seq2SeqCliOptions extends GpuOptions, ModelOptions {
  beams?: number;
  numReturn?: number;
  lengthPenalty?: number;
  earlyStopping?: boolean | "never";
  /** True where it was not given: commander takes `--no-…` for a negation. */
  repeatNgram?: number | true;
  minLength?: number;
  maxTokens?: number;
  greedy?: boolean;
  json?: boolean;
}

/** What a command does with its model: one text streamed, or several together. */
export interface Seq2SeqWork {
  one(model: Seq2SeqModel, text: string, options: Seq2SeqGenerateOptions): Generation;
  many(model: Seq2SeqModel, texts: readonly string[], options: ManyTextsOptions): Promise<GenerationResult[]>;
}

interface ManyTextsOptions extends Seq2SeqGenerateOptions {
  readonly onProgress: (progress: { readonly done: number; readonly total: number }) => void;
}

const whole = (min: number, max?: number) => numberIn({ min, integer: true, ...(max === undefined ? {} : { max }) });

/** A command with the options that both share; the caller adds its own. */
export function seq2SeqCommand(name: string, description: string, examples: string): Command {
  const command = new Command(name)
    .description(description)
    .argument("[texts...]", "texts; - reads one a line from stdin");
  addGpuFlags(addCacheFlags(addCheckpointFlags(command)));
  return command
    .option("--beams <n>", "search with this many hypotheses; default as the checkpoint says", whole(1, 32))
    .option("--num-return <n>", "results of a search, at most --beams; the others are in --json", whole(1, 32))
    .option("--length-penalty <p>", "above 0 a search favours long results", numberIn({ min: -100, max: 100 }))
    .addOption(earlyStoppingOption())
    .option("--no-repeat-ngram <n>", "no run of so many tokens comes twice", whole(0))
    .option("--min-length <n>", "no end before so many tokens", whole(0))
    .option("--max-tokens <n>", "stop after this many tokens", whole(1))
    .option("--greedy", "always take the likeliest token, without a search")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `\nExamples:\n${examples}\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`,
    );
}

/** Loads the model and runs the command; `fallback` finds the model where `--model` names none. Resolves with the exit code. */
export async function runSeq2Seq(
  command: string,
  given: readonly string[],
  options: Seq2SeqCliOptions,
  { signal, work, fallback }: { signal: AbortSignal; work: Seq2SeqWork; fallback: () => string },
): Promise<number> {
  const spec = modelSpec(command, options.model ?? fallback(), options.revision);
  const gpu = await openGpu(options);
  const texts = await linesOf(command, given);
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadWithAdapter(engine, options, signal, (load) => engine.loadSeq2Seq(spec, load));
    const generate = generateOptions(options, signal);
    const [only] = texts;
    if (texts.length === 1 && only !== undefined)
      return await runOne(engine, model, work.one(model, only, generate), options);
    return await runMany(engine, model, texts, { work, generate, options });
  } finally {
    await engine.dispose();
  }
}

async function runOne(
  engine: Engine,
  model: Seq2SeqModel,
  generation: Generation,
  options: Seq2SeqCliOptions,
): Promise<number> {
  for await (const piece of generation) if (!options.json) print(piece);
  const result = await generation.result;
  if (options.json) printLine(JSON.stringify({ ...result, ...about(engine, model) }));
  else printLine();
  if (result.finish === "abort") note("heed: interrupted");
  return result.finish === "abort" ? EXIT.INTERRUPTED : EXIT.OK;
}

async function runMany(
  engine: Engine,
  model: Seq2SeqModel,
  lines: readonly string[],
  { work, generate, options }: { work: Seq2SeqWork; generate: Seq2SeqGenerateOptions; options: Seq2SeqCliOptions },
): Promise<number> {
  const progress = countProgress("computing");
  try {
    const onProgress = ({ done, total }: { done: number; total: number }) => progress.update(done, total);
    // An empty line stays an empty line, so that lines of input and output belong together.
    const texts = lines.filter((line) => line.trim() !== "");
    const found = await work.many(model, texts, { ...generate, onProgress });
    progress.stop();
    const results = lines.map((line) => (line.trim() === "" ? undefined : found.shift()));
    const text = results.map((result) => oneLine(result?.text ?? "")).join("\n");
    if (options.json) {
      const rows = results.map((result) => result ?? { text: "" });
      printLine(JSON.stringify({ text, results: rows, ...about(engine, model) }));
    } else {
      printLine(text);
    }
    const isAborted = results.some((result) => result?.finish === "abort");
    if (isAborted) note("heed: interrupted");
    return isAborted ? EXIT.INTERRUPTED : EXIT.OK;
  } finally {
    progress.stop();
  }
}

function oneLine(text: string): string {
  return text.replace(/\s*\r?\n\s*/g, " ");
}

function about({ adapter }: Engine, { source }: Seq2SeqModel) {
  return { model: source, adapter };
}

function generateOptions(options: Seq2SeqCliOptions, signal: AbortSignal): Seq2SeqGenerateOptions {
  const { beams, numReturn, lengthPenalty, earlyStopping, repeatNgram, minLength, maxTokens, greedy } = options;
  const noRepeatNgram = repeatNgram === true ? undefined : repeatNgram;
  return { beams, numReturn, lengthPenalty, earlyStopping, noRepeatNgram, minLength, maxTokens, greedy, signal };
}

/** The texts that were given; `-` alone, or nothing where something is piped, reads one a line from stdin. */
async function linesOf(command: string, texts: readonly string[]): Promise<string[]> {
  const piped = texts.length === 0 && process.stdin.isTTY !== true;
  if (piped || (texts.length === 1 && texts[0] === "-")) {
    const lines = (await readStdin()).split(/\r?\n/);
    if (lines.some((line) => line.trim() !== "")) return lines;
  } else if (texts.some((text) => text.trim() !== "")) {
    return [...texts];
  }
  throw new HeedError("USAGE", `${command}: at least one text is needed; - reads one a line from stdin.`);
}

/** The model for a command without one of Heed's own. */
export function needModel(command: string): never {
  throw new HeedError(
    "USAGE",
    `${command}: --model is needed: a Hub id (hf:owner/name), a URL, or a folder (./folder).`,
  );
}
