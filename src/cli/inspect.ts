import { writeFile } from "node:fs/promises";
import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import type { CapturedAttention } from "../inspect/attention_request.ts";
import type { NamedValue, RunOptions, RunResult } from "../inspect/run.ts";
import type { HeadId } from "../inspect/taps.ts";
import type { AttentionKind } from "../nn/dense_step.ts";
import type { AnyModel, Engine } from "../tasks/engine.ts";
import type { Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import type { SpeechModel } from "../tasks/speech_model.ts";
import type { EncodeOptions, Tokenizer } from "../text/tokenizer.ts";
import { shippedModel } from "../sources/shipped_node.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadAnyModel, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { addCheckpointFlags, addGpuFlags, DECODER_SPECS } from "./model_flags.ts";
import { collect, headIds, numberIn, prefixLength, tokenIds, wholeNumbers } from "./option_types.ts";
import { note, printLine } from "./output.ts";
import { readSound } from "./sound.ts";

interface InspectOptions extends GpuOptions, ModelOptions {
  ids?: number[];
  layers?: number[];
  heads?: number[];
  queries?: number[];
  topKeys: number;
  capture?: string[];
  ablate?: HeadId[];
  values?: boolean;
  target?: string;
  decoderIds?: number[];
  prefix?: number | "prompt";
  html?: string;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed inspect --html attention.html "To be, or not"       the small model that comes with Heed
  $ heed inspect --model hf:owner/name "Once upon a time"
  $ heed inspect --model ./folder --layers 0,1 --heads 3 --json "Once upon a time" | jq .layers[0].heads[0]
  $ heed inspect --model ./folder --html attention.html "Once upon a time"
  $ heed inspect --model ./marian --target "Hello, world." --html cross.html "你好，世界。"
  $ heed inspect --model ./whisper --html sound.html speech.wav
  $ heed inspect --model ./folder --ablate 0.3,2.1 "Once upon a time"
  $ heed inspect --model ./folder --values "Once upon a time"
  $ heed inspect --model ./folder --capture block.0.attention.mixed --json "Once upon a time" | jq .values

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed inspect`; `done` receives the exit code. */
export function inspectCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("inspect")
    .description("Show what each head attends to in a prompt, and what the next token would be")
    .argument("[prompt]", "the text to look at, - reads it from stdin; for a model of speech a WAV file");
  addGpuFlags(addCheckpointFlags(command, DECODER_SPECS));
  return command
    .option("--ids <list>", "token ids instead of text", tokenIds)
    .option("--layers <list>", "layers such as 0,1; default all", wholeNumbers)
    .option("--heads <list>", "heads such as 0,3; default all", wholeNumbers)
    .option(
      "--queries <list>",
      "positions; default the last (an encoder's first), and all with --json or --html",
      wholeNumbers,
    )
    .option("--top-keys <n>", "keys to name for each row", numberIn({ min: 1, max: 64, integer: true }), 3)
    .option("--capture <name>", "read a value, for --json; may be given several times", collect)
    .option("--ablate <list>", "switch heads off: layer.head, such as 0.3,2.1", headIds)
    .option("--target <text>", "in an encoder–decoder: the text that its decoder has written; default what it writes")
    .option("--decoder-ids <list>", "the same as token ids, the start token among them", tokenIds)
    .option("--prefix <n>", "so many first tokens see each other both ways; prompt for all", prefixLength)
    .option("--html <file>", "write one self-contained page: every head as a map, one of them large")
    .option("--values", "list the values that --capture can name, and end")
    .option("--json", "print one JSON object, with the weights")
    .addHelpText("after", EXAMPLES)
    .action(async (prompt: string | undefined, options: InspectOptions) => {
      done(await inspect(prompt, options, signal));
    });
}

async function inspect(prompt: string | undefined, options: InspectOptions, signal: AbortSignal): Promise<number> {
  if ((prompt === undefined) === (options.ids === undefined)) {
    throw new HeedError(
      "USAGE",
      'inspect: one prompt is needed, as text ("Once upon a time"), as --ids 1,403,407, or for a model of speech as a WAV file.',
    );
  }
  if (options.capture && !options.json) {
    throw new HeedError("USAGE", "inspect: --capture prints its values with --json alone. Add --json.");
  }
  const spec = modelSpec("inspect", options.model ?? shippedModel("generate"), options.revision);
  const gpu = await openGpu(options);
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadAnyModel(engine, spec, options, signal);
    const subject = await subjectOf(model, options.ids ?? prompt ?? "", { ...options, signal });
    if (options.values) {
      for (const { name, shape } of await subject.values()) printLine(`${name} [${shape.join(", ")}]`);
    } else await run(engine, subject, { ...options, signal });
    return EXIT.OK;
  } finally {
    await engine.dispose();
  }
}

type SignalledOptions = InspectOptions & { readonly signal: AbortSignal };

/** What is looked at: a prompt; in an encoder–decoder a source, and what the decoder reads. */
interface Subject {
  readonly source: string;
  readonly ids: readonly number[];
  /** Of the source, in encoder–decoders; of sound the numbers of the encoder's rows. */
  readonly sourceIds?: readonly number[];
  /** How the page calls the source. */
  readonly sourceTitle?: string;
  /** Every token sees every other, and no next one follows: an encoder. */
  readonly isEncoder?: boolean;
  run(options: RunOptions): Promise<RunResult>;
  values(): Promise<NamedValue[]>;
  token(id: number): string;
  sourceToken(id: number): string;
}

async function subjectOf(model: AnyModel, given: string | number[], options: SignalledOptions): Promise<Subject> {
  if (model.kind === "speech") return soundSubject(model, given, options);
  const input = given === "-" ? await readStdin() : given;
  if (model.kind === "encoder-decoder") return pairSubject(model, input, options);
  if (options.target !== undefined || options.decoderIds) {
    const flag = options.target === undefined ? "--decoder-ids" : "--target";
    throw new HeedError(
      "USAGE",
      `inspect: ${model.family} has no decoder beside its encoder, so ${flag} means nothing. Leave it out.`,
    );
  }
  if (model.kind === "encoder" && options.prefix !== undefined) {
    throw new HeedError("USAGE", `inspect: ${model.family} reads both ways, so --prefix means nothing. Leave it out.`);
  }
  const ids = typeof input === "string" ? encode(model.tokenizer, input) : input;
  const token = tokenText(model.tokenizer);
  return {
    ...{ source: model.source, ids, token, sourceToken: token, isEncoder: model.kind === "encoder" },
    run: (request) => model.run(ids, request),
    values: () => model.values({ tokens: ids.length }),
  };
}

/** A source and a target: as given, or what the model itself makes of the source. */
async function pairSubject(
  model: Seq2SeqModel,
  input: string | number[],
  { target, decoderIds, prefix, signal }: SignalledOptions,
): Promise<Subject> {
  if (prefix !== undefined) {
    throw new HeedError("USAGE", `inspect: ${model.family} has an encoder, so --prefix means nothing. Leave it out.`);
  }
  const sourceIds = typeof input === "string" ? encode(model.tokenizer, input) : input;
  const start = model.facts.decoderStart;
  const own = async () => {
    const { ids } = await model.generate(sourceIds, { greedy: true, maxTokens: 64, signal }).result;
    return [start, ...ids.generated.slice(0, -1)];
  };
  const written = () => [start, ...encode(model.targetTokenizer, target ?? "", { addSpecialTokens: false })];
  const ids = decoderIds ?? (target === undefined ? await own() : written());
  return {
    ...{ source: model.source, ids, sourceIds },
    ...{ token: tokenText(model.targetTokenizer), sourceToken: tokenText(model.tokenizer) },
    run: (request) => model.run(sourceIds, ids, request),
    values: () => model.values({ tokens: ids.length, sourceTokens: sourceIds.length }),
  };
}

/** A recording, and what the model writes of it, or what it is told that it has written. */
async function soundSubject(
  model: SpeechModel,
  input: string | number[],
  { target, decoderIds, prefix, signal }: SignalledOptions,
): Promise<Subject> {
  if (typeof input !== "string") {
    throw new HeedError("USAGE", `inspect: ${model.family} reads sound, so --ids means nothing. Name a WAV file.`);
  }
  const wrong = prefix === undefined ? (target === undefined ? undefined : "--target") : "--prefix";
  if (wrong !== undefined) {
    const instead =
      wrong === "--target" ? "Give --decoder-ids, or leave it out for what the model writes" : "Leave it out";
    throw new HeedError("USAGE", `inspect: ${model.family} reads sound, for which there is no ${wrong}. ${instead}.`);
  }
  const sound = await readSound("inspect", input);
  const ids = decoderIds ?? (await model.transcribe(sound, { signal })).ids[0]?.slice(0, -1) ?? [];
  const seconds = model.secondsPerRow;
  // A number stands for the encoder's row of that number: there are as many as cross-attention has keys.
  const sourceIds = Array.from({ length: model.soundRows(sound) }, (_, row) => row);
  return {
    ...{ source: model.source, ids, sourceIds, sourceTitle: "the sound, by seconds" },
    ...{ token: tokenText(model.tokenizer), sourceToken: (row: number) => `${(row * seconds).toFixed(2)} s` },
    run: (request) => model.run(sound, ids, request),
    values: () => model.values(sound, { tokens: ids.length }),
  };
}

function encode(tokenizer: Tokenizer | undefined, text: string, options: EncodeOptions = {}): number[] {
  if (tokenizer) return tokenizer.encode(text, options);
  throw new HeedError("BAD_FILE", "inspect: text needs a tokenizer, which the checkpoint lacks. Give --ids.");
}

function tokenText(tokenizer: Tokenizer | undefined): (id: number) => string {
  return (id) => tokenizer?.decode([id], { skipSpecial: false }) ?? String(id);
}

async function run(engine: Engine, subject: Subject, options: SignalledOptions): Promise<void> {
  const { layers, heads, topKeys, capture, ablate, json, html, prefix, signal } = options;
  const { ids, sourceIds, token, sourceToken, isEncoder } = subject;
  // An encoder's first token stands for the whole, a decoder's last one tells what comes next.
  const queries = options.queries ?? (json || html ? undefined : [isEncoder ? 0 : ids.length - 1]);
  const kinds: AttentionKind[] | undefined = sourceIds && (json || html ? ["self", "memory"] : ["memory"]);
  const weights = json === true || html !== undefined;
  const attention = { kinds, layers, heads, queries, weights, summary: { topKeys } };
  const logits = isEncoder ? false : "last";
  const request: RunOptions = { capture, ablate, attention, logits, prefixLength: prefix, signal };
  const result = await subject.run(request);
  if (html !== undefined) await writePage(html, subject, result);
  if (json) {
    const values = Object.fromEntries(
      Object.entries(result.values).map(([name, { shape, data }]) => [name, { shape, data: [...data] }]),
    );
    const kept = prefix === "prompt" || isEncoder ? ids.length : prefix;
    const layersOf = (kind: AttentionKind) =>
      result.attention
        .filter((captured) => captured.kind === kind)
        .map((captured) => ({
          layer: captured.layer,
          heads: describeHeads(captured, kind === "memory" ? captured.keys : kept),
        }));
    const next = likeliest(result, topKeys).map(({ id, logit }) => ({ id, logit, text: token(id) }));
    printLine(
      JSON.stringify({
        tokens: ids.map((id) => ({ id, text: token(id) })),
        layers: layersOf("self"),
        ...(sourceIds && {
          sourceTokens: sourceIds.map((id) => ({ id, text: sourceToken(id) })),
          crossLayers: layersOf("memory"),
        }),
        ...{ values, ...(isEncoder ? {} : { next }), model: subject.source, adapter: engine.adapter },
      }),
    );
    return;
  }
  if (html !== undefined) {
    note(`heed: wrote ${html}`);
    return;
  }
  printTable(result.attention, sourceIds?.map(sourceToken) ?? ids.map(token));
  if (isEncoder) return;
  const next = likeliest(result, topKeys).map(({ id, logit }) => `${JSON.stringify(token(id))} ${logit.toFixed(2)}`);
  note(`heed: likeliest next tokens, with their logits: ${next.join(", ")}`);
}

async function writePage(file: string, subject: Subject, result: RunResult): Promise<void> {
  const { attentionPage } = await import("../inspect/attention_page.ts");
  const { ids, sourceIds, token, sourceToken, source, sourceTitle = "the source" } = subject;
  const rows = ids.map(token);
  const part = (kind: AttentionKind, title: string, keys: readonly string[]) => {
    const captured = result.attention.filter((c) => c.kind === kind);
    const queries = (captured[0]?.queries ?? []).map((at) => rows[at] ?? "");
    return { title, queries, keys, layers: captured.map((c) => ({ layer: c.layer, heads: headMaps(c) })) };
  };
  const self = part("self", `${sourceIds ? "The decoder's self" : "Self"}-attention: rows attend to columns`, rows);
  const cross = sourceIds
    ? [part("memory", `Cross-attention: what the decoder reads attends to ${sourceTitle}`, sourceIds.map(sourceToken))]
    : [];
  const next = probabilities(result)
    .slice(0, 5)
    .map(({ id, probability }) => ({ text: token(id), probability }));
  const page = await attentionPage({ model: source, parts: [...cross, self], next });
  await writeFile(file, page).catch((cause) => {
    throw new HeedError("USAGE", `inspect: --html must name a file that can be written; got ${file} (${cause.code}).`, {
      cause,
    });
  });
}

/** Each head's weights, and the mean entropy of its rows. */
function headMaps({ heads, queries, keys, weights, summary }: CapturedAttention) {
  const size = queries.length * keys;
  return heads.map((head, h) => ({
    head,
    weights: weights?.slice(h * size, (h + 1) * size) ?? new Float32Array(size),
    entropy: mean(summary?.entropy.subarray(h * queries.length, (h + 1) * queries.length)),
  }));
}

function mean(numbers: Float32Array | undefined): number {
  return numbers && numbers.length > 0 ? numbers.reduce((a, b) => a + b, 0) / numbers.length : 0;
}

/** Next tokens by falling probability. */
function probabilities(result: RunResult): { id: number; probability: number }[] {
  const ranked = likeliest(result, Number.POSITIVE_INFINITY);
  const largest = ranked[0]?.logit ?? 0;
  const sum = ranked.reduce((total, { logit }) => total + Math.exp(logit - largest), 0);
  return ranked.map(({ id, logit }) => ({ id, probability: Math.exp(logit - largest) / sum }));
}

interface DescribedRow {
  query: number;
  weights?: number[];
  entropy: number;
  firstMass: number;
  meanDistance: number;
  topKeys: { key: number; weight: number }[];
}

/** A layer's capture, head by head and row by row. */
function describeHeads(
  captured: CapturedAttention,
  prefix = 0,
): { head: number; entropy: number; queries: DescribedRow[] }[] {
  const { heads, queries, keys, weights, summary } = captured;
  if (!summary) return [];
  const top = summary.topKeys.length / (heads.length * queries.length);
  return heads.map((head, h) => ({
    head,
    entropy: mean(summary.entropy.subarray(h * queries.length, (h + 1) * queries.length)),
    queries: queries.map((query, q): DescribedRow => {
      const row = h * queries.length + q;
      const names = [...summary.topKeys.subarray(row * top, (row + 1) * top)];
      return {
        query,
        ...(weights ? { weights: [...weights.subarray(row * keys, row * keys + Math.max(query + 1, prefix))] } : {}),
        entropy: summary.entropy[row] as number,
        firstMass: summary.firstMass[row] as number,
        meanDistance: summary.meanDistance[row] as number,
        topKeys: names
          .map((key, i) => ({ key, weight: summary.topWeights[row * top + i] as number }))
          .filter(({ weight }) => weight > 0),
      };
    }),
  }));
}

function printTable(attention: readonly CapturedAttention[], tokens: readonly string[]): void {
  printLine(["layer", "head", "query", "entropy", "first", "distance", "attends to"].join("\t"));
  for (const captured of attention) {
    for (const { head, queries } of describeHeads(captured)) {
      for (const { query, entropy, firstMass, meanDistance, topKeys } of queries) {
        const keys = topKeys.map(({ key, weight }) => `${key} ${JSON.stringify(tokens[key])} ${weight.toFixed(3)}`);
        const numbers = [entropy.toFixed(3), firstMass.toFixed(3), meanDistance.toFixed(2)];
        printLine([captured.layer, head, query, ...numbers, keys.join(", ")].join("\t"));
      }
    }
  }
}

function likeliest({ logits = [] }: RunResult, count: number): { id: number; logit: number }[] {
  const ranked = [...(logits[0] ?? [])].map((logit, id) => ({ id, logit }));
  return ranked.sort((a, b) => b.logit - a.logit || a.id - b.id).slice(0, count);
}
