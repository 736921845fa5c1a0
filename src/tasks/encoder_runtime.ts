import { HeedError, throwIfAborted } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { InspectedModel } from "../inspect/run.ts";
import type { Encoder } from "../models/encoder_family.ts";
import { headWidth } from "../models/encoder_heads.ts";
import { type Decoder, mapLeaves, type Model, type WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import type { SentenceEmbedding } from "../models/sentence_embedding.ts";
import { denseStep } from "../nn/dense_step.ts";
import { NO_SLOT } from "../nn/step.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import type { AdaptedModel } from "./adapters.ts";
import { checkTokenIds } from "./token_ids.ts";

/** The ids of one sequence, with what stands around the text, and their segments (default 0). */
export interface EncoderSequence {
  readonly ids: readonly number[];
  readonly typeIds?: readonly number[] | undefined;
}

/** How far a call is, counted in sequences. */
export interface EncoderProgress {
  readonly done: number;
  readonly total: number;
}

/** What every call on an encoder accepts. */
export interface EncoderCallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EncoderProgress) => void) | undefined;
}

/** What a pass computes: hidden rows, what the head gives, or sentence vectors. */
export type EncoderOutput = "hidden" | "logits" | "embedding";

/** Rows of one pass: a GPU is filled by some thousand, a CPU adapter by less. */
const MOST_ROWS = 4096;
const MOST_ROWS_SOFTWARE = 512;
/** Plans that are kept: each has the intermediates of its batch. */
const MOST_PLANS = 8;
/** Rows of a pass of the head of words, whose logits are as wide as the vocabulary. */
const WORD_ROWS = 32;
const SHORTEST = 8;

/** The model that is loaded for an encoder and its sentence embedding: one tree `{encoder, sentence}`. */
export function withSentence(encoder: Encoder, sentence: SentenceEmbedding): Model {
  return {
    ...encoder,
    rules: { encoder: encoder.rules, sentence: sentence.rules },
    constants: (positions) => ({ ...encoder.constants(positions), ...sentence.constants() }),
  };
}

/** An encoder with what makes one vector of a text, and the weights of {@link withSentence}. */
export interface LoadedEncoder {
  readonly encoder: Encoder;
  readonly sentence: SentenceEmbedding;
  readonly weights: LoadedWeights;
}

/** The weights of {@link withSentence}. */
interface EncoderTree {
  readonly encoder: WeightTree<Value>;
  readonly sentence: WeightTree<Value>;
}

/**
 * A loaded encoder and its plans: batches of padded sequences in, rows out. Sequences of like length go together, in batches
 * whose sizes are few, so that plans are few. Calls take turns.
 */
export class EncoderRuntime {
  readonly device: Device;
  readonly encoder: Encoder;
  readonly sentence: SentenceEmbedding;
  readonly weights: LoadedWeights;
  readonly constants: Readonly<Record<string, Tensor>>;
  readonly #plans = new Map<string, Plan>();
  #turn: Promise<unknown> = Promise.resolve();
  /** Passes that run or wait for their turn. */
  #waiting = 0;
  #disposed = false;

  constructor(device: Device, { encoder, sentence, weights }: LoadedEncoder) {
    this.device = device;
    this.encoder = encoder;
    this.sentence = sentence;
    this.weights = weights;
    const constants: Record<string, Tensor> = {};
    try {
      const made = withSentence(encoder, sentence).constants(encoder.facts.contextLength);
      for (const [name, { shape, data }] of Object.entries(made)) {
        constants[name] = Tensor.from(device, name, shape, "f32", data);
      }
    } catch (error) {
      for (const t of Object.values(constants)) t.dispose();
      throw error;
    }
    this.constants = constants;
  }

  /** Throws `USAGE` or `LIMIT` for ids that the model does not know, or more than it takes. */
  check(op: string, { ids, typeIds }: EncoderSequence): void {
    const { vocabSize, contextLength, segments } = this.encoder.facts;
    if (ids.length < 1) throw new HeedError("USAGE", `${op}: a text must have at least one token; got none.`);
    if (ids.length > contextLength) {
      throw new HeedError(
        "LIMIT",
        `${op}: the model takes ${contextLength} tokens; got ${ids.length}. Shorten the text, or split it.`,
      );
    }
    checkTokenIds(op, ids, { vocabSize });
    const most = Math.max(segments, 1);
    const wrong = typeIds?.find((id) => !Number.isInteger(id) || id < 0 || id >= most);
    if (wrong !== undefined || (typeIds && typeIds.length !== ids.length)) {
      const got = wrong ?? `${typeIds?.length} of them for ${ids.length} ids`;
      throw new HeedError("USAGE", `${op}: type ids must be one below ${most} for each id; got ${got}.`);
    }
  }

  /** Rows of each sequence, `[ids, C]`, `[ids, labels]` or one of the head or of the embedding, in the order of the sequences. */
  async run(
    op: string,
    sequences: readonly EncoderSequence[],
    output: EncoderOutput,
    { signal, onProgress }: EncoderCallOptions = {},
  ): Promise<Float32Array[]> {
    this.#checkUsable(op);
    for (const sequence of sequences) this.check(op, sequence);
    const results = new Array<Float32Array>(sequences.length);
    const order = sequences.map((_, i) => i).sort((a, b) => lengthOf(sequences[b]) - lengthOf(sequences[a]));
    let done = 0;
    while (done < order.length) {
      const length = this.#bucket(lengthOf(sequences[order[done] as number]));
      const batch = this.#batchSize(length, order.length - done);
      const chunk = order.slice(done, done + batch);
      const rows = await this.#inTurn(() => {
        throwIfAborted(signal, op);
        this.#checkUsable(op);
        return this.#runBatch(
          chunk.map((i) => sequences[i] as EncoderSequence),
          { batch, length, output, signal },
        );
      });
      rows.forEach((row, i) => {
        results[chunk[i] as number] = row;
      });
      done += chunk.length;
      onProgress?.({ done, total: order.length });
    }
    return results;
  }

  /** Logits over the vocabulary for hidden rows, `[rows][V]`. */
  async words(op: string, rows: readonly Float32Array[], { signal }: EncoderCallOptions = {}): Promise<Float32Array[]> {
    const { vocabSize, width } = this.encoder.facts;
    const all: Float32Array[] = [];
    for (let at = 0; at < rows.length; at += WORD_ROWS) {
      const chunk = rows.slice(at, at + WORD_ROWS);
      const data = new Float32Array(WORD_ROWS * width);
      for (const [i, row] of chunk.entries()) data.set(row, i * width);
      const values = await this.#inTurn(async () => {
        throwIfAborted(signal, op);
        this.#checkUsable(op);
        const planned = await this.#plan("words", (rec) => {
          rec.output("result", this.#words(rec, rec.input("rows", [WORD_ROWS, width], "f32")));
        });
        planned.write("rows", data);
        await planned.run({}, { signal });
        return new Float32Array(await planned.readOutput("result"));
      });
      for (let i = 0; i < chunk.length; i++) all.push(values.slice(i * vocabSize, (i + 1) * vocabSize));
    }
    return all;
  }

  /** Records a pass over `batch` sequences of `length` tokens, with inputs tokens, row_table, segments and key_lengths. */
  #record(
    rec: ProgramRecorder,
    { batch, length, output }: { readonly batch: number; readonly length: number; readonly output: EncoderOutput },
  ): Value {
    const { encoder, sentence } = this;
    const tree = this.#tree(rec);
    const rows = batch * length;
    const lengths = rec.input("key_lengths", [batch], "u32");
    const constants = Object.fromEntries(Object.entries(this.constants).map(([name, t]) => [name, rec.weight(t)]));
    const step = denseStep({
      tokens: rec.input("tokens", [rows], "u32"),
      rowTable: rec.input("row_table", [rows, 2], "u32"),
      ...{ batch, length, causal: false, constants, keyLengths: lengths },
    });
    const segments = encoder.facts.segments > 0 ? { segments: rec.input("segments", [rows], "u32") } : {};
    const hidden = encoder.hidden(rec, tree.encoder, { step, ...segments });
    if (output === "hidden") return hidden;
    if (output === "logits") return encoder.logits(rec, tree.encoder, hidden, { batch, step });
    return sentence.record(rec, tree.sentence, { hidden, lengths, constant: (name) => step.constant(name) });
  }

  /** Writes what a pass over the sequences reads. */
  write(planned: Plan, sequences: readonly EncoderSequence[], length: number): void {
    const { inputs } = planned.record;
    const batch = (inputs.get("tokens")?.shape[0] ?? 0) / length;
    const tokens = new Uint32Array(batch * length);
    const rowTable = new Uint32Array(batch * length * 2).fill(NO_SLOT);
    const segments = new Uint32Array(batch * length);
    const lengths = new Uint32Array(batch);
    sequences.forEach(({ ids, typeIds }, b) => {
      tokens.set(ids, b * length);
      segments.set(typeIds ?? [], b * length);
      lengths[b] = ids.length;
      const places = placesOf(ids, this.encoder.facts.placelessId);
      for (const [t, place] of places.entries()) rowTable.set([b, place], (b * length + t) * 2);
    });
    planned.write("tokens", tokens);
    planned.write("row_table", rowTable);
    if (inputs.has("key_lengths")) planned.write("key_lengths", lengths);
    if (inputs.has("segments")) planned.write("segments", segments);
  }

  /** The encoder as `model.run` looks into it: over one sequence, without a mask. */
  inspected(sequence: EncoderSequence): InspectedModel {
    const { device, encoder, weights, constants } = this;
    const { facts, head } = encoder;
    const tree = (values: WeightTree<Value>) => (values as unknown as EncoderTree).encoder;
    const decoder: Decoder = {
      ...encoder,
      facts: { ...facts, kvHeads: facts.heads, vocabSize: head ? headWidth(head, facts) : facts.width },
      hidden(rec, values, step) {
        const rows = step.tokens.shape[0] ?? 0;
        const segments = facts.segments > 0 ? { segments: rec.input("segments", [rows], "u32") } : {};
        return encoder.hidden(rec, tree(values), { step, ...segments });
      },
      logits: (rec, values, hidden) =>
        encoder.logits(rec, tree(values), hidden, { batch: 1, step: { dropout: (_, x) => x } }),
    };
    const write = (planned: Plan) => this.write(planned, [sequence], sequence.ids.length);
    return { ...{ device, decoder, weights, constants, write }, contextLength: facts.contextLength, causal: false };
  }

  /** What adapters need to know. */
  adapted(): AdaptedModel {
    const { encoder: model, weights } = this;
    // The loader replaces every rule of the tree {encoder, sentence} by one leaf.
    const { encoder: tree } = weights.tree as { readonly encoder: WeightTree<Tensor> };
    return {
      ...{ model, weights, tree },
      checkIdle: (what) => {
        if (this.#waiting === 0) return;
        throw new HeedError("USAGE", `${what}: a text is being read. Wait for its result first.`);
      },
      forgetPlans: () =>
        this.#inTurn(async () => {
          for (const planned of this.#plans.values()) planned.dispose();
          this.#plans.clear();
        }),
    };
  }

  /** Frees weights and plans when the pass that runs is done. Idempotent. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#inTurn(async () => {
      for (const planned of this.#plans.values()) planned.dispose();
      for (const t of Object.values(this.constants)) t.dispose();
      this.weights.dispose();
    });
  }

  async #runBatch(
    sequences: readonly EncoderSequence[],
    call: { batch: number; length: number; output: EncoderOutput; signal: AbortSignal | undefined },
  ): Promise<Float32Array[]> {
    const { batch, length, output, signal } = call;
    const planned = await this.#plan(`${output} ${batch}×${length}`, (rec) => {
      rec.output("result", this.#record(rec, { batch, length, output }));
    });
    this.write(planned, sequences, length);
    await planned.run({}, { signal });
    const all = new Float32Array(await planned.readOutput("result"));
    const [rows = 1, width = 1] = planned.record.outputs.get("result")?.shape ?? [];
    // One row a sequence, or one a token.
    const perSequence = rows / batch;
    return sequences.map(({ ids }, b) => {
      const first = b * perSequence;
      return all.slice(first * width, (first + Math.min(ids.length, perSequence)) * width);
    });
  }

  #words(rec: ProgramRecorder, rows: Value): Value {
    return this.encoder.logits(rec, this.#tree(rec).encoder, rows, { batch: 1, step: { dropout: (_, x) => x } });
  }

  #tree(rec: ProgramRecorder): EncoderTree {
    this.weights.onRecord?.(rec);
    const tree = mapLeaves(this.weights.tree, isTensor, (t) => rec.weight(t));
    return tree as unknown as EncoderTree;
  }

  /** The plan of that name; the one that was used longest ago makes room. */
  async #plan(name: string, record: (rec: ProgramRecorder) => void): Promise<Plan> {
    let planned = this.#plans.get(name);
    if (planned) {
      this.#plans.delete(name);
    } else {
      const rec = new ProgramRecorder(name);
      record(rec);
      planned = await plan(this.device, rec);
      for (const [oldest, old] of this.#plans) {
        if (this.#plans.size < MOST_PLANS) break;
        this.#plans.delete(oldest);
        old.dispose();
      }
    }
    this.#plans.set(name, planned);
    return planned;
  }

  /** Lengths that plans are made for: 8, 16, 24, 32, then in steps of a quarter of a power of two. */
  #bucket(length: number): number {
    const { contextLength } = this.encoder.facts;
    const step = Math.max(SHORTEST, 2 ** Math.floor(Math.log2(Math.max(1, length - 1)) - 1));
    return Math.min(contextLength, Math.ceil(length / step) * step);
  }

  /** A power of two: the least that holds what waits, the most that a pass should have. */
  #batchSize(length: number, waiting: number): number {
    const rows = this.device.facts.software ? MOST_ROWS_SOFTWARE : MOST_ROWS;
    const most = 2 ** Math.max(0, Math.floor(Math.log2(rows / length)));
    return Math.min(most, 2 ** Math.ceil(Math.log2(waiting)));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#turn.then(work).finally(() => this.#waiting--);
    this.#turn = result.catch(() => {});
    return result;
  }

  #checkUsable(op: string): void {
    if (this.#disposed) throw new HeedError("DISPOSED", `${op}: the model was disposed. Load it again.`);
  }
}

function isTensor(node: WeightTree<Tensor>): node is Tensor {
  return node instanceof Tensor;
}

function lengthOf(sequence: EncoderSequence | undefined): number {
  return sequence?.ids.length ?? 0;
}

/** Positions of tokens; a token without a place has the one before the first. */
function placesOf(ids: readonly number[], placelessId: number | undefined): number[] {
  let place = 0;
  return ids.map((id) => (id === placelessId ? -1 : place++));
}
