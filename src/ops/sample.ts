import { HeedError } from "../core/errors.ts";
import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import {
  type LowerContext,
  type OpDef,
  type OpNode,
  type Recorder,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { reducePart } from "./reduce.ts";
import { layoutIn, need, rowReduction, rowsAndColumns } from "./rows.ts";
import philoxCode from "../../shaders/lib/philox.wgsl";
import scoreCode from "../../shaders/lib/sample_score.wgsl";
import argmaxCode from "../../shaders/sample_argmax.wgsl";
import commitCode from "../../shaders/sample_commit.wgsl";
import drawCode from "../../shaders/sample_draw.wgsl";

const ARGMAX_KERNEL = shader("sample_argmax.wgsl", argmaxCode);
const DRAW_KERNEL = shader("sample_draw.wgsl", drawCode);
const COMMIT_KERNEL = shader("sample_commit.wgsl", commitCode);
const SCORE_PART = shader("lib/sample_score.wgsl", scoreCode);
const PHILOX_PART = shader("lib/philox.wgsl", philoxCode);

/** u32 words of a slot's settings in the state `sampling`. */
export const SAMPLING_WORDS = 12;
/** Steps that the token ring holds: the host has to read a step's tokens before as many more have run. */
export const RING_STEPS = 64;
/** Words before the ring's tokens; word 0 counts the steps. */
export const RING_HEADER = 4;
/** What the GPU writes in place of a token where logits hold NaN or +Infinity, or nothing but −Infinity. */
export const FAILED_TOKEN = 0xffffffff;

/** How a sequence's tokens are chosen; what is absent is left out. */
export interface SamplingSettings {
  /** ≥ 0; 0 takes the most probable token. Default 1. */
  readonly temperature?: number;
  /** Keep the k largest logits; 0 keeps all. */
  readonly topK?: number;
  /** In (0, 1]: keep the fewest most probable tokens that reach this probability. */
  readonly topP?: number;
  /** In [0, 1]: keep tokens with at least this share of the largest probability. */
  readonly minP?: number;
  /** In [1e-6, 1e6]: logits of seen tokens are divided by it if positive, else multiplied. */
  readonly repetitionPenalty?: number;
  /** The generator's key; only its low 64 bits count. Default 0. */
  readonly seed?: number | bigint;
}

/** Words of the state `ring` for `rows` rows. */
export function ringLength(rows: number): number {
  return RING_HEADER + RING_STEPS * rows;
}

/** Index in the ring of a row's token of one step. */
export function ringIndex(step: number, row: number, rows: number): number {
  return RING_HEADER + (step % RING_STEPS) * rows + row;
}

/** u32 words of one slot's bits in the state `seen`. */
export function seenWords(vocabulary: number): number {
  return ceilDiv(vocabulary, 32);
}

/** The bits of the tokens that a slot has seen, prompt included. Throws `USAGE` for an id that is no token. */
export function packSeen(ids: Iterable<number>, vocabulary: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(seenWords(vocabulary));
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary) {
      throw new HeedError(
        "USAGE",
        `sample: token ids must be in [0, ${vocabulary}); got ${id}. Encode the text with this model's tokenizer.`,
      );
    }
    const word = Math.floor(id / 32);
    words[word] = ((words[word] as number) | (1 << (id % 32))) >>> 0;
  }
  return words;
}

/** The words of one slot in the state `sampling`. Throws `USAGE` for a setting out of its range. */
export function packSampling(settings: SamplingSettings = {}): Uint32Array<ArrayBuffer> {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = settings;
  checkSetting("temperature", temperature, temperature >= 0 && temperature <= 1e6, "in [0, 1e6]");
  checkSetting("topK", topK, Number.isInteger(topK) && topK >= 0 && topK <= FAILED_TOKEN, "an integer ≥ 0");
  checkSetting("topP", topP, topP > 0 && topP <= 1, "in (0, 1]");
  checkSetting("minP", minP, minP >= 0 && minP <= 1, "in [0, 1]");
  checkSetting(
    "repetitionPenalty",
    repetitionPenalty,
    repetitionPenalty >= 1e-6 && repetitionPenalty <= 1e6,
    "in [1e-6, 1e6]",
  );
  checkSetting("seed", seed, typeof seed === "bigint" || Number.isSafeInteger(seed), "an integer");
  const words = new Uint32Array(SAMPLING_WORDS);
  const floats = new Float32Array(words.buffer);
  floats[0] = temperature;
  words[1] = topK;
  floats[2] = topP;
  floats[3] = minP;
  floats[4] = repetitionPenalty;
  const key = BigInt.asUintN(64, BigInt(seed));
  words[5] = Number(key & 0xffffffffn);
  words[6] = Number(key >> 32n);
  return words;
}

function checkSetting(name: string, value: number | bigint, ok: boolean, range: string): void {
  if (!ok) throw new HeedError("USAGE", `sample: ${name} must be ${range}; got ${value}.`);
}

/** What {@link sampleToken} reads and writes; all but logits and sampling are states. */
export interface SampleInputs {
  /** `[N, V]` f32. */
  readonly logits: Value;
  /** `[N, 2]` u32: slot (0xffffffff: inactive) and position of each row; positions grow by 1. Slots differ. */
  readonly rowTable: Value;
  /** `[N]` u32: the chosen tokens. */
  readonly tokens: Value;
  /** `[ringLength(N)]` u32: the last {@link RING_STEPS} steps' tokens, after a header whose word 0 counts the steps. */
  readonly ring: Value;
  /** `[slots, seenWords(V)]` u32: a bit for each token that the slot has seen. */
  readonly seen: Value;
  /** `[slots, SAMPLING_WORDS]` u32, from {@link packSampling}. */
  readonly sampling: Value;
}

/** `greedy` takes the largest penalised logit and ignores the other settings; `sample` follows each slot's settings. */
export interface SampleAttrs {
  readonly mode: "greedy" | "sample";
}

export const SAMPLE: OpDef<SampleAttrs> = {
  name: "sample",
  writes: ["rowTable", "tokens", "ring", "seen"],
  infer(inputs) {
    const { rows, columns } = rowsAndColumns("sample", "logits", inputs["logits"]);
    const slots = inputs["sampling"]?.shape[0] ?? 0;
    checkState("rowTable", inputs["rowTable"], [rows, 2]);
    checkState("tokens", inputs["tokens"], [rows]);
    checkState("ring", inputs["ring"], [ringLength(rows)]);
    checkState("sampling", inputs["sampling"], [slots, SAMPLING_WORDS]);
    checkState("seen", inputs["seen"], [slots, seenWords(columns)]);
    if (columns > 2 ** 24)
      throw shapeError("sample", "V must be at most 2^24", formatTensor("logits", need(inputs, "logits")));
    return [];
  },
  lower(node, context) {
    const { inputs } = node;
    const { best, chunks } = node.attrs.mode === "greedy" ? lowerArgmax(node, context) : lowerDraw(node, context);
    const { rows, seen_words, slots } = commonParams(node);
    context.dispatch({
      kernel: { kernel: COMMIT_KERNEL, parts: [SCORE_PART] },
      bindings: {
        best,
        row_table: need(inputs, "rowTable"),
        tokens: need(inputs, "tokens"),
        ring: need(inputs, "ring"),
        seen: need(inputs, "seen"),
      },
      params: { rows, chunks, slots, seen_words, ring_steps: RING_STEPS },
      workgroups: [1],
    });
  },
};

interface Choice {
  /** `[rows, chunks, 2]` u32: bits of a score, token. */
  readonly best: Value;
  readonly chunks: number;
}

function lowerArgmax(node: OpNode<SampleAttrs>, context: LowerContext): Choice {
  const params = commonParams(node);
  // GPUs: 16 tokens an invocation. CPU adapters: a chunk an invocation, enough of them for all lanes and cores.
  const chunkSize = context.facts.software ? Math.max(256, ceilDiv(params.vocabulary, 32)) : 4096;
  const chunks = ceilDiv(params.vocabulary, chunkSize);
  const best = context.temp("best", [params.rows, chunks, 2], "u32");
  const { variant, workgroups } = rowReduction(context.facts, params.rows * chunks, chunkSize);
  context.dispatch({
    kernel: { ...variant, kernel: ARGMAX_KERNEL, parts: [SCORE_PART, ...(variant.parts ?? [])] },
    bindings: { ...readBindings(node), best },
    params: { ...params, chunks, chunk_size: chunkSize },
    workgroups,
  });
  return { best, chunks };
}

function lowerDraw(node: OpNode<SampleAttrs>, context: LowerContext): Choice {
  const params = commonParams(node);
  const best = context.temp("best", [params.rows, 1, 2], "u32");
  const scores = context.temp("scores", [params.rows, params.vocabulary], "f32");
  context.dispatch({
    kernel: { kernel: DRAW_KERNEL, ...drawVariant(context.facts) },
    bindings: { ...readBindings(node), best, scores },
    params,
    workgroups: spreadWorkgroups(params.rows),
  });
  return { best, chunks: 1 };
}

/** A row has one workgroup; on CPU adapters one of a vector's width, whose barriers cost next to nothing. */
function drawVariant(facts: GpuFacts): Pick<KernelVariant, "parts" | "enable" | "constants"> {
  const { parts, enable } = reducePart(facts);
  return {
    parts: [SCORE_PART, PHILOX_PART, ...parts],
    enable,
    constants: { WORKGROUP_SIZE: facts.software ? 8 : 256 },
  };
}

function readBindings({ inputs }: OpNode<SampleAttrs>): Record<string, Value> {
  return {
    logits: need(inputs, "logits"),
    row_table: need(inputs, "rowTable"),
    seen: need(inputs, "seen"),
    sampling: need(inputs, "sampling"),
  };
}

function commonParams({ inputs }: OpNode<SampleAttrs>) {
  const logits = need(inputs, "logits");
  const { rows, columns } = rowsAndColumns("sample", "logits", logits);
  const { offset, rowStride } = layoutIn(logits, 1);
  const slots = need(inputs, "sampling").shape[0] as number;
  return { rows, vocabulary: columns, offset, row_stride: rowStride, slots, seen_words: seenWords(columns) };
}

function checkState(name: string, value: Value | undefined, shape: readonly number[]): void {
  if (value?.dtype === "u32" && value.shape.length === shape.length && shape.every((d, i) => d === value.shape[i]))
    return;
  throw shapeError(
    "sample",
    `${name} must be [${shape.join(", ")}] u32`,
    value ? formatTensor(name, value) : "nothing",
  );
}

/**
 * Chooses the next token of each row and leaves everything ready for the next step: writes `tokens` and the ring, marks the
 * token as seen, and advances the row's position. Inactive rows are left alone. The same seed, position and logits give the
 * same token whatever else is in the batch.
 *
 * Shapes as in {@link SampleInputs}; returns nothing. Throws `SHAPE`.
 */
export function sampleToken(rec: Recorder, inputs: SampleInputs, attrs: SampleAttrs): void {
  rec.record(SAMPLE, { ...inputs }, attrs);
}
