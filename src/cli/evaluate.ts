import { writeFile } from "node:fs/promises";
import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import { openSource } from "../sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../tasks/engine.ts";
import { diskFile } from "../train/data/files_node.ts";
import { readSquad } from "../train/data/readers.ts";
import { BLEU_TOKENIZERS, type BleuTokenizer, bleu } from "../train/metrics/bleu.ts";
import { chrf } from "../train/metrics/chrf.ts";
import { type ClassificationReport, type ClassScores, classificationReport } from "../train/metrics/classification.ts";
import { perplexity } from "../train/metrics/perplexity.ts";
import { squadScores } from "../train/metrics/squad.ts";
import { answersById, linesOf, textOf } from "./evaluate_files.ts";
import { type PredictOptions, predictAnswers, predictClasses, predictTranslations } from "./evaluate_model.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openGpu } from "./gpu.ts";
import { loadModel, type ModelOptions, modelSpec } from "./model.ts";
import { addCheckpointFlags, addGpuFlags, DECODER_SPECS } from "./model_flags.ts";
import { collect, numberIn } from "./option_types.ts";
import { printLine } from "./output.ts";

const METRICS = ["bleu", "chrf", "squad", "accuracy", "classification", "perplexity"] as const;
type Metric = (typeof METRICS)[number];

interface CommandOptions extends GpuOptions, ModelOptions {
  metric: Metric;
  predictions?: string;
  references?: string[];
  tokenize?: BleuTokenizer;
  data?: string;
  length?: number;
  beams?: number;
  output?: string;
  skipBad?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Files alone:
  bleu, chrf                a line of --predictions against the same line of each --references
  accuracy, classification  a class a line, on both sides
  squad                     --predictions is SQuAD's {id: answer} (.json) or an answer a line, --references a file in SQuAD's format
Files may end in .gz.
With --model it is run on --data first:
  bleu, chrf                a .tsv of source and target, or .jsonl with {"source", "target"}; or a text a line, with --references
  accuracy, classification  a .tsv of text and label, or .jsonl with {"text", "label"}
  squad                     a file in SQuAD's format
  perplexity                a text, encoded at once; windows of --length tokens, each token but the first predicted once
A .tsv may begin with a header that has these names, in any order and among others.

Examples:
  $ heed evaluate --metric bleu --predictions out.txt --references ref.txt
  $ heed evaluate --metric bleu --tokenize zh --predictions out.zh --references ref1.zh --references ref2.zh --json
  $ heed evaluate --metric classification --predictions predicted.txt --references labels.txt
  $ heed evaluate --metric squad --predictions answers.json --references dev-v1.1.json
  $ heed evaluate --metric bleu --model ./translator --data pairs.tsv --output translations.txt
  $ heed evaluate --metric squad --model ./span-model --data dev-v1.1.json
  $ heed evaluate --metric classification --model ./classifier --data dev.tsv
  $ heed evaluate --metric perplexity --model ./folder --data text.txt

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed evaluate`; `done` receives the exit code. */
export function evaluateCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("evaluate")
    .description("Score predictions against references, or a model on text")
    .addOption(new Option("--metric <name>", "what to measure").choices(METRICS).makeOptionMandatory())
    .option("--predictions <file>", "what a model gave")
    .option("--references <file>", "what is right; may be given several times (bleu, chrf)", collect)
    .addOption(new Option("--tokenize <name>", "how BLEU finds words; 13a unless given").choices(BLEU_TOKENIZERS));
  addGpuFlags(addCheckpointFlags(command, `run this on --data: ${DECODER_SPECS}`));
  return command
    .option("--data <file>", "what the model is run on")
    .option(
      "--beams <n>",
      "of translations; default as the checkpoint says",
      numberIn({ min: 1, max: 32, integer: true }),
    )
    .option("--output <file>", "write what the model gave there, a line each")
    .option(
      "--length <n>",
      "tokens of a window; 512 unless given (perplexity), as the model has them (squad)",
      numberIn({ min: 1, integer: true }),
    )
    .option("--skip-bad", "leave out questions that don't fit SQuAD's format")
    .option("--json", "print one JSON object")
    .addHelpText("after", EXAMPLES)
    .action(async (options: CommandOptions) => {
      const { metric, model } = options;
      const ofText = metric === "perplexity";
      const result = ofText || model !== undefined ? await ofModel(options, signal) : await ofFiles(options);
      printLine(options.json ? JSON.stringify(result.values) : result.text);
      done(EXIT.OK);
    });
}

/** What is printed: one object, or text for people. */
interface Result {
  readonly values: Readonly<Record<string, unknown>>;
  readonly text: string;
}

async function ofFiles(options: CommandOptions): Promise<Result> {
  const { metric, predictions, references = [] } = options;
  if (predictions === undefined || references.length === 0) {
    throw new HeedError(
      "USAGE",
      `evaluate: ${metric} needs --predictions FILE and --references FILE, or --model and --data FILE; got too few. Name both.`,
    );
  }
  const [first = ""] = references;
  const severalFit = metric === "bleu" || metric === "chrf";
  if (references.length > 1 && !severalFit) {
    throw new HeedError(
      "USAGE",
      `evaluate: ${metric} takes one --references FILE; got ${references.length}. Name one.`,
    );
  }
  if (metric === "squad") return ofAnswers(predictions, first, options);
  return scored(options, await linesOf(predictions), await Promise.all(references.map(linesOf)));
}

/** Lines against lines of references. */
function scored(
  { metric, tokenize = "13a" }: CommandOptions,
  own: readonly string[],
  others: readonly string[][],
): Result {
  if (metric === "bleu") return bleuResult(own, others, tokenize);
  if (metric === "chrf") {
    const score = chrf(own, others);
    return { values: { chrf: score }, text: `chrF2 ${score.toFixed(2)}` };
  }
  const trimmed = (lines: readonly string[] = []) => lines.map((line) => line.trim());
  const report = classificationReport(trimmed(own), trimmed(others[0]));
  if (metric === "accuracy") {
    return { values: { accuracy: report.accuracy }, text: `accuracy ${report.accuracy.toFixed(4)}` };
  }
  return { values: { ...report, classes: Object.fromEntries(report.classes) }, text: reportTable(report) };
}

function bleuResult(own: readonly string[], others: readonly (readonly string[])[], tokenize: BleuTokenizer): Result {
  const result = bleu(own, others, { tokenize });
  const { score, precisions, brevityPenalty, hypothesisLength, referenceLength } = result;
  const parts = precisions.map((precision) => precision.toFixed(1)).join("/");
  const ratio = (referenceLength > 0 ? hypothesisLength / referenceLength : 0).toFixed(3);
  const text = `BLEU ${score.toFixed(2)} ${parts} (BP ${brevityPenalty.toFixed(3)}, ratio ${ratio}, ${hypothesisLength} words for ${referenceLength}; ${tokenize})`;
  return { values: { bleu: score, precisions, brevityPenalty, hypothesisLength, referenceLength, tokenize }, text };
}

/** Predictions by their questions' ids, or an answer a line in the questions' order. */
async function ofAnswers(predictions: string, references: string, { skipBad }: CommandOptions): Promise<Result> {
  const questions: { id: string; answers: string[] }[] = [];
  for await (const { id, answers } of readSquad(diskFile(references), { skipBad })) {
    questions.push({ id, answers: answers.map(({ text }) => text) });
  }
  if (questions.length === 0) {
    throw new HeedError("BAD_FILE", `evaluate: ${references} must have a question; got none. Name another file.`);
  }
  const ids = questions.map(({ id }) => id);
  const own = /\.json(\.gz)?$/.test(predictions) ? await answersById(predictions, ids) : await linesOf(predictions);
  return squadResult(
    own,
    questions.map(({ answers }) => answers),
  );
}

function squadResult(own: readonly (string | undefined)[], answers: readonly (readonly string[])[]): Result {
  const scores = squadScores(own, answers);
  const text = `exact match ${scores.exactMatch.toFixed(2)}, F1 ${scores.f1.toFixed(2)} (${answers.length} questions)`;
  return { values: { ...scores, questions: answers.length }, text };
}

function reportTable({ accuracy, classes, micro, macro, weighted }: ClassificationReport): string {
  const named: [string, ClassScores][] = [...classes, ["micro", micro], ["macro", macro], ["weighted", weighted]];
  const width = Math.max(8, ...named.map(([name]) => name.length));
  const row = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(width)}${cells.map((cell) => cell.padStart(11)).join("")}`;
  return [
    row("", ["precision", "recall", "f1", "support"]),
    ...named.map(([name, { precision, recall, f1, support }]) =>
      row(name, [precision.toFixed(4), recall.toFixed(4), f1.toFixed(4), String(support)]),
    ),
    `accuracy ${accuracy.toFixed(4)}`,
  ].join("\n");
}

async function ofModel(options: CommandOptions, signal: AbortSignal): Promise<Result> {
  const { metric, model: name, data } = options;
  if (name === undefined || data === undefined) {
    throw new HeedError("USAGE", `evaluate: ${metric} needs --model and --data FILE; got too few. Name both.`);
  }
  if (options.predictions !== undefined) {
    throw new HeedError(
      "USAGE",
      "evaluate: --model gives the predictions itself; got --predictions beside it. Leave one out.",
    );
  }
  const spec = modelSpec("evaluate", name, options.revision);
  const gpu = await openGpu(options);
  const engine = await createEngineWith({ gpu, tier: options.tier }, openSource);
  try {
    const predict = { ...options, data };
    if (metric === "perplexity") return await perplexityOf(engine, spec, predict, signal);
    if (metric === "squad") {
      const { predictions, answers } = await predictAnswers(engine, spec, predict, signal);
      await keep(options, predictions);
      return squadResult(predictions, answers);
    }
    const run = metric === "bleu" || metric === "chrf" ? predictTranslations : predictClasses;
    const { predictions, references } = await run(engine, spec, predict, signal);
    await keep(options, predictions);
    return scored(options, predictions, references);
  } finally {
    await engine.dispose();
  }
}

/** Writes what a model gave, a line each, where it was asked for. Throws `BAD_FILE`. */
async function keep({ output }: CommandOptions, predictions: readonly string[]): Promise<void> {
  if (output === undefined) return;
  const text = predictions.map((line) => `${line.replace(/\r?\n/g, " ")}\n`).join("");
  await writeFile(output, text).catch((cause: unknown) => {
    throw new HeedError("BAD_FILE", `evaluate: ${output} must be written; got ${String(cause)}. Check --output.`, {
      cause,
    });
  });
}

async function perplexityOf(
  engine: Engine,
  spec: string,
  options: PredictOptions,
  signal: AbortSignal,
): Promise<Result> {
  const { data, length = 512 } = options;
  const text = await textOf(data);
  const model = await loadModel(engine, spec, options, signal);
  if (!model.tokenizer)
    throw new HeedError("USAGE", `evaluate: perplexity needs a model with a tokenizer; got ${spec}.`);
  // The text at once, as other programs encode it: by lines, each would have its own first space.
  const ids = model.tokenizer.encode(text);
  const window = Math.min(length, model.contextLength);
  const result = await perplexity(ids, { length: window, logits: (part) => model.logits(part, { signal }) });
  const summary = `perplexity ${result.perplexity.toFixed(4)}, ${result.nats.toFixed(4)} nats a token (${result.tokens} tokens)`;
  return { values: { ...result }, text: summary };
}
