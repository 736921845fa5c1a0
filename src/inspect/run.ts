import { HeedError, invariant } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type Decoder, type EncoderDecoder, mapLeaves, type WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import type { SoundFeatures } from "../models/speech_family.ts";
import { prefixOf } from "../nn/prefix.ts";
import { type AttentionKind, type DenseMemory, denseStep, type DenseStepParts } from "../nn/dense_step.ts";
import { embedding } from "../ops/embedding.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import {
  type AttentionRequest,
  type CapturedAttention,
  resolveAttention,
  resolveIndexes,
} from "./attention_request.ts";
import { AttentionTap } from "./attention_tap.ts";
import { type TapOptions, type TappedValue, Taps, tappedNames } from "./taps.ts";

/** The attention that a run captures. */
export interface RunAttentionRequest extends AttentionRequest {
  /** Positions of the query rows; default all. */
  readonly queries?: readonly number[];
}

/** What a run does beside computing: an unknown name throws `USAGE`, naming near ones. */
export interface RunOptions extends TapOptions {
  /** Attention weights and summaries; `true` for the weights of every layer, head and query. */
  readonly attention?: true | RunAttentionRequest;
  /** Logits of every position (default), of the last one, or none. */
  readonly logits?: boolean | "last";
  /** So many first tokens see each other both ways, `prompt` for all; default 0. */
  readonly prefixLength?: number | "prompt";
  /** Attention whose largest score takes all the weight, in every layer; default none. Its weights are not captured by `attention`. */
  readonly hard?: readonly AttentionKind[];
  readonly signal?: AbortSignal;
}

/** What a run came to; all of it is on the host. */
export interface RunResult {
  /** `[T][V]`, or `[1][V]` for `"last"`. Absent with `logits: false`. */
  readonly logits?: Float32Array[];
  /** What `capture` named. */
  readonly values: Readonly<Record<string, TappedValue>>;
  /** One entry a layer that `attention` asked for. */
  readonly attention: readonly CapturedAttention[];
}

/** A value of a forward pass that taps can name. */
export interface NamedValue {
  readonly name: string;
  readonly shape: Shape;
}

/** A decoder that is loaded, or what looks like one. */
export interface InspectedModel {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly weights: LoadedWeights;
  /** The family's constants for positions up to `contextLength`. */
  readonly constants: Readonly<Record<string, Tensor>>;
  readonly contextLength: number;
  /** A row sees no later row; default true. False in encoders. */
  readonly causal?: boolean;
  /** Writes what the pass reads beside its tokens and their places, which may be written anew. */
  readonly write?: (planned: Plan) => void;
}

/** What an encoder reads: token ids, or features of sound with the number of rows that it makes of them. */
export type RunSource = readonly number[] | { readonly features: SoundFeatures; readonly rows: number };

/** What a run goes over: the decoder's tokens, and in encoder–decoders the source's, or the shape of its sound. */
interface RunLengths {
  readonly length: number;
  readonly sourceLength?: number | undefined;
  readonly soundShape?: Shape | undefined;
}

const OPTIONS = ["capture", "patch", "ablate", "attention", "logits", "prefixLength", "hard", "signal"];
const REQUEST = ["kinds", "layers", "heads", "weights", "summary", "queries"];
/** Values that only the three named kernels have; the fused kernel never holds them. */
const UNFUSED = /^(encoder\.)?block\.(\d+)\.(cross_)?attention\.(scores|probs)$/;

/** The named values of a forward pass over so many tokens, in the order in which they are computed. */
export function namedValues(model: InspectedModel, length: number, source?: number | RunSource): NamedValue[] {
  const lengths = typeof source === "number" ? { length, sourceLength: source } : lengthsOf(length, source);
  return [...catalogue(model, lengths, true).values()].map(({ name, shape }) => ({ name, shape }));
}

function lengthsOf(length: number, source: RunSource | undefined): RunLengths {
  if (source === undefined) return { length };
  return "features" in source
    ? { length, sourceLength: source.rows, soundShape: source.features.shape }
    : { length, sourceLength: source.length };
}

/**
 * One forward pass over `ids` without a cache, with taps; in encoder–decoders over `source` first. The plan is made for this run and freed after it. Throws
 * `USAGE` for what is not there, `LIMIT` for what does not fit a binding, `ABORTED`.
 */
export async function runTapped(
  model: InspectedModel,
  ids: readonly number[],
  options: RunOptions = {},
  source?: RunSource,
): Promise<RunResult> {
  checkKeys("options", options, OPTIONS);
  const lengths = lengthsOf(ids.length, source);
  const run = recordRun(model, lengths, options);
  const planned = await plan(model.device, run.rec);
  try {
    planned.write("tokens", Uint32Array.from(ids));
    planned.write("row_table", rowsInOrder(ids.length));
    if (source && lengths.sourceLength !== undefined) {
      planned.write("source_tokens", "features" in source ? source.features.data : Uint32Array.from(source));
      planned.write("source_row_table", rowsInOrder(lengths.sourceLength));
    }
    model.write?.(planned);
    for (const [name, data] of run.inputs) planned.write(name, data);
    run.taps.prepare(planned);
    run.attention?.tap.prepare(planned);
    await planned.run({}, { signal: options.signal });
    return {
      ...(options.logits === false ? {} : { logits: await readLogits(planned, model.decoder.facts.vocabSize) }),
      values: await run.taps.read(planned),
      attention: run.attention ? await readAttention(planned, run.attention, lengths) : [],
    };
  } finally {
    planned.dispose();
  }
}

/** (slot, position) of the rows of one sequence. */
function rowsInOrder(length: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length: 2 * length }, (_, i) => (i % 2 === 0 ? 0 : (i - 1) / 2));
}

interface RecordedRun {
  readonly rec: ProgramRecorder;
  readonly taps: Taps;
  readonly attention?: { readonly tap: AttentionTap; readonly queries: readonly number[] };
  /** Beside the tokens and their places. */
  readonly inputs: ReadonlyMap<string, Uint32Array<ArrayBuffer>>;
}

function recordRun(model: InspectedModel, lengths: RunLengths, options: RunOptions): RecordedRun {
  const { facts } = model.decoder;
  const { length, sourceLength = 0 } = lengths;
  const { logits = true, hard = [] } = options;
  const taps = new Taps(options, catalogue(model, lengths, logits), facts.headDim);
  const rec: ProgramRecorder = new ProgramRecorder(`run ${length}`, (value) => taps.onNamed(rec, value));
  const inputs = new Map<string, Uint32Array<ArrayBuffer>>();
  const input = (name: string, data: readonly number[]): Value => {
    inputs.set(name, Uint32Array.from(data));
    return rec.input(name, [data.length], "u32");
  };
  const attention = options.attention && openAttention(rec, model, length, options.attention);
  const unfused = unfusedLayers(options);
  const longest = Math.max(length, sourceLength);
  checkBinding(model, unfused.size > 0 ? facts.heads * longest * longest : 0, "scores of a layer");
  checkBinding(model, logits === true ? length * facts.vocabSize : 0, 'logits (take logits: "last")');
  const queries = attention && input("attention.queries", attention.queries);
  const tap = attention?.tap;
  checkHard(hard, attention?.tap.request.kinds ?? [], sourceLength);
  // Every row sees the whole source.
  const isMemoryWatched = attention?.tap.request.kinds.includes("memory") ?? false;
  const places = isMemoryWatched
    ? input("attention.source_places", attention?.queries.map(() => sourceLength - 1) ?? [])
    : undefined;
  const forward = recordForward(rec, model, lengths, {
    prefix: prefixOf("run", options.prefixLength, length),
    unfused: (layer, kind) => unfused.has(`${kind} ${layer}`),
    unfusedEncoder: (layer) => unfused.has(`encoder ${layer}`),
    hard: (_, kind) => hard.includes(kind),
    lse: (layer, kind) => (tap?.request.kinds.includes(kind) && tap.request.layers.includes(layer)) ?? false,
    onAttend: (seen) => queries && tap?.recordDense(seen, queries, seen.kind === "memory" ? places : queries),
  });
  rec.output("result", recordResult(rec, forward, logits));
  if (logits === "last") inputs.set("last", Uint32Array.of(length - 1));
  return { rec, taps, attention, inputs };
}

/** Every value that a run can name, by name. */
function catalogue(model: InspectedModel, lengths: RunLengths, logits: boolean | "last"): ReadonlyMap<string, Value> {
  const rec = new ProgramRecorder("catalogue");
  recordResult(rec, recordForward(rec, model, lengths, { unfused: () => true, unfusedEncoder: () => true }), logits);
  return rec.named;
}

interface Forward {
  readonly hidden: Value;
  logits(hidden: Value): Value;
}

/** The logits that are asked for; the hidden state where there are none. */
function recordResult(rec: ProgramRecorder, { hidden, logits }: Forward, rows: boolean | "last"): Value {
  if (rows === false) return hidden;
  return logits(rows === "last" ? embedding(rec, rec.input("last", [1], "u32"), hidden) : hidden);
}

interface Watch extends Pick<DenseStepParts, "prefix" | "unfused" | "hard" | "lse" | "onAttend"> {
  readonly unfusedEncoder?: (layer: number) => boolean;
}

function recordForward(
  rec: ProgramRecorder,
  { decoder, weights, constants, contextLength, causal = true }: InspectedModel,
  { length, sourceLength, soundShape }: RunLengths,
  { unfusedEncoder, ...watch }: Watch,
): Forward {
  if (length < 1 || length > contextLength) {
    const rule = `from 1 to ${contextLength} tokens, its context`;
    throw new HeedError(length < 1 ? "USAGE" : "LIMIT", `run: the model takes ${rule}; got ${length}.`);
  }
  const isTensor = (node: WeightTree<Tensor>): node is Tensor => node instanceof Tensor;
  weights.onRecord?.(rec);
  const tree = mapLeaves(weights.tree, isTensor, (t) => rec.weight(t));
  const tables = Object.fromEntries(Object.entries(constants).map(([name, t]) => [name, rec.weight(t)]));
  const memory =
    sourceLength === undefined
      ? undefined
      : recordSource(rec, decoder, tree, {
          ...{ length: sourceLength, constants: tables, unfused: unfusedEncoder, soundShape },
        });
  const step = denseStep({
    ...watch,
    tokens: rec.input("tokens", [length], "u32"),
    rowTable: rec.input("row_table", [length, 2], "u32"),
    batch: 1,
    length,
    causal,
    constants: tables,
    memory,
  });
  const hidden = decoder.hidden(rec, tree, step);
  return { hidden, logits: (h) => decoder.logits(rec, tree, h) };
}

/** The encoder over one source, and its keys and values for each layer of the decoder. */
function recordSource(
  rec: ProgramRecorder,
  decoder: Decoder,
  tree: WeightTree<Value>,
  { soundShape, ...parts }: Pick<DenseStepParts, "length" | "constants" | "unfused"> & Pick<RunLengths, "soundShape">,
): DenseMemory {
  invariant(isEncoderDecoder(decoder), `${decoder.family} has no encoder`);
  const { length } = parts;
  const tokens = rec.input("source_tokens", soundShape ?? [length], soundShape ? "f32" : "u32");
  const rowTable = rec.input("source_row_table", [length, 2], "u32");
  const encoded = decoder.encode(rec, tree, denseStep({ ...parts, tokens, rowTable, batch: 1, causal: false }));
  return { layers: decoder.memory(rec, tree, encoded), length };
}

function isEncoderDecoder(decoder: Decoder): decoder is EncoderDecoder {
  return "encode" in decoder;
}

/** Hard attention has other weights than those that are rebuilt from queries and keys. */
function checkHard(hard: readonly AttentionKind[], watched: readonly AttentionKind[], sourceLength: number): void {
  for (const kind of hard) {
    if (!["self", "memory"].includes(kind) || (kind === "memory" && sourceLength === 0)) {
      throw new HeedError("USAGE", `run: hard is self, or memory in an encoder–decoder; got ${String(kind)}.`);
    }
    if (!watched.includes(kind)) continue;
    const mend = "Capture block.N.attention.probs or block.N.cross_attention.probs instead.";
    throw new HeedError("USAGE", `run: attention does not capture the weights of hard attention (${kind}). ${mend}`);
  }
}

/** Attentions that run unfused: `self 3`, `memory 0`, `encoder 1`. */
function unfusedLayers(options: TapOptions): ReadonlySet<string> {
  return new Set(
    tappedNames(options).flatMap((name) => {
      const [all, encoder, layer, cross] = UNFUSED.exec(name) ?? [];
      return all === undefined ? [] : [`${encoder ? "encoder" : cross ? "memory" : "self"} ${layer}`];
    }),
  );
}

function openAttention(
  rec: ProgramRecorder,
  { device, decoder }: InspectedModel,
  length: number,
  given: true | RunAttentionRequest,
): { tap: AttentionTap; queries: readonly number[] } {
  const request = given === true ? {} : given;
  checkKeys("attention", request, REQUEST);
  const resolved = resolveAttention("run", request, decoder.facts);
  return {
    tap: new AttentionTap(rec, resolved, { op: "run", maxBytes: device.raw.limits.maxStorageBufferBindingSize }),
    queries: resolveIndexes("run: attention.queries", request.queries, length),
  };
}

async function readLogits(planned: Plan, vocabSize: number): Promise<Float32Array[]> {
  const all = new Float32Array(await planned.readOutput("result"));
  const rows = Math.floor(all.length / vocabSize);
  return Array.from({ length: rows }, (_, i) => all.slice(i * vocabSize, (i + 1) * vocabSize));
}

async function readAttention(
  planned: Plan,
  { tap, queries }: { tap: AttentionTap; queries: readonly number[] },
  { length: keys, sourceLength: sourceKeys }: RunLengths,
): Promise<CapturedAttention[]> {
  const read = new Map<string, ArrayBuffer>();
  for (const { name } of tap.outputs) read.set(name, await planned.readOutput(name));
  const rows = queries.map((_, i) => i);
  const cut = { request: tap.request, rows, queries, keys, sourceKeys };
  return tap.cut(({ name }) => read.get(name) as ArrayBuffer, cut);
}

function checkBinding({ device }: InspectedModel, elements: number, what: string): void {
  const limit = device.raw.limits.maxStorageBufferBindingSize;
  if (elements * 4 <= limit) return;
  throw new HeedError(
    "LIMIT",
    `run: the ${what} take ${elements * 4} bytes, a binding holds ${limit}. Shorten the text.`,
  );
}

function checkKeys(what: string, given: object, known: readonly string[]): void {
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new HeedError("USAGE", `run: ${what} has no field "${unknown}"; known are ${known.join(", ")}.`);
}
