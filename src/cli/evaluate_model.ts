import { HeedError } from "../core/errors.ts";
import type { Engine } from "../tasks/engine.ts";
import { diskFile } from "../train/data/files_node.ts";
import { Misfit } from "../train/data/lines.ts";
import { readJsonl, readSquad, readTsv } from "../train/data/readers.ts";
import { hasUnanswerable } from "../train/metrics/squad.ts";
import { linesOf } from "./evaluate_files.ts";
import { loadEncoder, loadWithAdapter, type ModelOptions } from "./model.ts";
import { note } from "./output.ts";
import { countProgress } from "./progress.ts";

/** What a model gave, beside what is right. */
export interface Predicted {
  readonly predictions: string[];
  /** One list a reference, each with a line for each prediction. */
  readonly references: string[][];
}

/** A question's answers, by its id. */
export interface Answered {
  readonly predictions: string[];
  readonly answers: string[][];
}

/** How a model is run on a file. */
export interface PredictOptions extends ModelOptions {
  /** The file of examples. */
  readonly data: string;
  readonly references?: readonly string[];
  readonly beams?: number;
  readonly length?: number;
  readonly skipBad?: boolean;
}

type Fields = Readonly<Record<string, unknown>>;

/** Translates the sources of a file of pairs; of a file of sources alone where references are named. */
export async function predictTranslations(
  engine: Engine,
  spec: string,
  options: PredictOptions,
  signal: AbortSignal,
): Promise<Predicted> {
  const { data, references = [], beams } = options;
  const named = references.length > 0;
  const pairs = named
    ? (await linesOf(data)).map((source) => ({ source, target: "" }))
    : await readFields(data, ["source", "target"], options);
  const model = await loadWithAdapter(engine, options, signal, (load) => engine.loadSeq2Seq(spec, load));
  const progress = countProgress("translating");
  try {
    const sources = pairs.map(({ source }) => source ?? "");
    const results = await model.translate(sources, {
      ...{ signal, onProgress: ({ done, total }) => progress.update(done, total) },
      ...(beams === undefined ? {} : { beams }),
    });
    const own = named ? await Promise.all(references.map(linesOf)) : [pairs.map(({ target }) => target ?? "")];
    return { predictions: results.map(({ text }) => text), references: own };
  } finally {
    progress.stop();
  }
}

/** Classifies the texts of a file of texts and labels. */
export async function predictClasses(
  engine: Engine,
  spec: string,
  options: PredictOptions,
  signal: AbortSignal,
): Promise<Predicted> {
  const examples = await readFields(options.data, ["text", "label"], options);
  const model = await loadEncoder(engine, spec, options, signal);
  const progress = countProgress("classifying");
  try {
    const told = await model.classify(
      examples.map(({ text }) => text ?? ""),
      { truncate: true, signal, onProgress: ({ done, total }) => progress.update(done, total) },
    );
    const labels = new Set(model.labels);
    const strange = examples.find(({ label }) => !labels.has(label ?? ""));
    if (strange) {
      throw new HeedError(
        "USAGE",
        `evaluate: labels must be those of the model (${model.labels.slice(0, 8).join(", ")}); got ${strange.label} in ${options.data}. Write them as the model does.`,
      );
    }
    return { predictions: told.map(({ label }) => label), references: [examples.map(({ label }) => label ?? "")] };
  } finally {
    progress.stop();
  }
}

/** Answers the questions of a file in SQuAD's format. */
export async function predictAnswers(
  engine: Engine,
  spec: string,
  options: PredictOptions,
  signal: AbortSignal,
): Promise<Answered> {
  const questions = [];
  for await (const question of readSquad(diskFile(options.data), { skipBad: options.skipBad ?? false }))
    questions.push(question);
  const model = await loadEncoder(engine, spec, options, signal);
  const progress = countProgress("answering");
  try {
    const told = await model.answer(questions, {
      noAnswer: hasUnanswerable(questions),
      ...{ signal, onProgress: ({ done, total }) => progress.update(done, total) },
      ...(options.length === undefined ? {} : { maxTokens: Math.min(options.length, model.contextLength) }),
    });
    return {
      predictions: told.map(({ text }) => text),
      answers: questions.map(({ answers }) => answers.map(({ text }) => text)),
    };
  } finally {
    progress.stop();
  }
}

/** Two texts a line: .jsonl by their names, else columns with a tab between. */
async function readFields(
  path: string,
  names: readonly [string, string],
  { skipBad = false }: PredictOptions,
): Promise<Record<string, string>[]> {
  const file = diskFile(path);
  const parse = (fields: Fields): Record<string, string> => {
    const entries = names.map((name): [string, string] => {
      const value = fields[name];
      const text = typeof value === "number" ? String(value) : value;
      if (typeof text !== "string" || text.trim() === "") {
        throw new Misfit(`must have text in "${name}"`, JSON.stringify(value) ?? "none");
      }
      return [name, text];
    });
    return Object.fromEntries(entries);
  };
  const isJson = /\.jsonl(\.gz)?$/.test(path);
  const found: Record<string, string>[] = [];
  const lines = isJson
    ? readJsonl(file, parse, { skipBad })
    : readTsv(file, parse, { skipBad, columns: names, onHeader: (message) => note(`heed: ${message}`) });
  for await (const fields of lines) found.push(fields);
  if (found.length === 0) {
    throw new HeedError("BAD_FILE", `evaluate: ${path} must have an example; got none. Name another file.`);
  }
  return found;
}
