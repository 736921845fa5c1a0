import { HeedError, invariant, throwIfAborted } from "../core/errors.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type EncoderDecoder, mapLeaves, type WeightTree } from "../models/family.ts";
import { denseStep } from "../nn/dense_step.ts";
import { type CachedSequence, KvCache, type KvCacheShape } from "../nn/kv_cache.ts";
import { type MemoryCache, NO_SLOT } from "../nn/step.ts";
import { kvAppend } from "../ops/kv_append.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { checkTokenIds } from "./token_ids.ts";

/** Rows of one pass: a GPU is filled by some thousand, a CPU adapter by less. */
const MOST_ROWS = { gpu: 4096, software: 512 };
/** Plans that are kept: each has the intermediates of its batch. */
const MOST_PLANS = 8;
const SHORTEST = 8;

/** How a call to {@link EncoderMemory.encode} is watched and ended. */
export interface EncodeOptions {
  readonly signal?: AbortSignal | undefined;
  /** Sees how many of the sources are encoded. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

interface Source {
  readonly ids: readonly number[];
  readonly sequence: CachedSequence;
}

/**
 * What the decoder of an encoder–decoder attends to: keys and values of each source, for every layer of the decoder, in pages of a
 * cache of their own. Each source is encoded once; beams and prompts share its pages.
 */
export class EncoderMemory {
  readonly cache: KvCache;
  /** Tokens that one source may have. */
  readonly contextLength: number;
  readonly #runtime: DecoderRuntime;
  readonly #model: EncoderDecoder;
  readonly #plans = new Map<string, Plan>();
  #turn: Promise<unknown> = Promise.resolve();

  /** `shape` is that of the decoder's own cache, but for the tokens that it holds. */
  constructor(runtime: DecoderRuntime, model: EncoderDecoder, shape: KvCacheShape) {
    this.#runtime = runtime;
    this.#model = model;
    this.contextLength = model.facts.encoder.contextLength;
    const cacheTokens = Math.max(shape.cacheTokens, this.contextLength);
    this.cache = new KvCache(runtime.device, { ...shape, contextLength: this.contextLength, cacheTokens });
  }

  /** Throws `USAGE` or `LIMIT` for a source that the encoder does not take. */
  check(op: string, ids: readonly number[]): void {
    const { sourceVocabSize, vocabSize } = this.#model.facts;
    checkTokenIds(op, ids, { vocabSize: sourceVocabSize ?? vocabSize });
    if (ids.length === 0) throw new HeedError("USAGE", `${op}: a source must have at least one token; got none.`);
    if (ids.length <= this.contextLength) return;
    throw new HeedError(
      "LIMIT",
      `${op}: the encoder takes ${this.contextLength} tokens; the source has ${ids.length}. Shorten the text, or split it.`,
    );
  }

  /**
   * Encodes sources, those of like length in one padded batch, and keeps their keys and values. The caller disposes the sequences.
   * Throws `LIMIT` where the cache has no room, `ABORTED`; nothing is kept then.
   */
  async encode(sources: readonly (readonly number[])[], options: EncodeOptions = {}): Promise<CachedSequence[]> {
    for (const ids of sources) this.check("encode", ids);
    const opened: Source[] = [];
    try {
      for (const ids of sources) {
        const source = { ids, sequence: this.cache.open() };
        opened.push(source);
        source.sequence.reserve(ids.length);
      }
      const run = this.#turn.then(() => this.#encodeAll(opened, options));
      this.#turn = run.catch(() => {});
      await run;
      return opened.map((s) => s.sequence);
    } catch (error) {
      for (const { sequence } of opened) sequence.dispose();
      throw error;
    }
  }

  /** The cache as a step of `rows` rows attends to it; the rows' places are the input `memory_rows`. */
  record(rec: ProgramRecorder, rows: number): MemoryCache {
    return {
      rowTable: rec.input("memory_rows", [rows, 2], "u32"),
      pageTable: rec.state(this.cache.pageTable),
      pools: this.cache.pools.map((p) => rec.state(p)),
    };
  }

  /** Says whose source each row of a plan attends to; returns the longest source's tokens. */
  place(planned: Plan, sequences: readonly CachedSequence[], rows: number): number {
    const table = new Uint32Array(rows * 2).fill(NO_SLOT);
    sequences.forEach(({ memory }, row) => {
      invariant(memory, "a sequence of an encoder–decoder without a source");
      table.set([memory.slot, memory.length - 1], row * 2);
    });
    planned.write("memory_rows", table);
    return Math.max(0, ...sequences.map(({ memory }) => memory?.length ?? 0));
  }

  /** Frees every plan, once nothing runs; the next calls record them anew. */
  async forgetPlans(): Promise<void> {
    await this.#turn;
    for (const planned of this.#plans.values()) planned.dispose();
    this.#plans.clear();
  }

  /** Frees the cache and the plans, once nothing runs. */
  async dispose(): Promise<void> {
    await this.forgetPlans();
    this.cache.dispose();
  }

  async #encodeAll(sources: readonly Source[], { signal, onProgress }: EncodeOptions): Promise<void> {
    const waiting = [...sources].sort((a, b) => b.ids.length - a.ids.length);
    let done = 0;
    while (waiting.length > 0) {
      throwIfAborted(signal, "encode");
      const length = this.#bucket((waiting[0] as Source).ids.length);
      const batch = this.#batchSize(length, waiting.length);
      const part = waiting.splice(0, batch);
      const planned = await this.#plan(batch, length);
      this.#write(planned, part, batch, length);
      await planned.run({}, { signal });
      for (const { ids, sequence } of part) sequence.advance(ids.length);
      done += part.length;
      onProgress?.(done, sources.length);
    }
  }

  #write(planned: Plan, sources: readonly Source[], batch: number, length: number): void {
    const tokens = new Uint32Array(batch * length);
    const rowTable = new Uint32Array(batch * length * 2).fill(NO_SLOT);
    const lengths = new Uint32Array(batch).fill(1);
    sources.forEach(({ ids, sequence }, b) => {
      tokens.set(ids, b * length);
      lengths[b] = ids.length;
      for (let t = 0; t < ids.length; t++) rowTable.set([sequence.slot, t], (b * length + t) * 2);
    });
    planned.write("tokens", tokens);
    planned.write("row_table", rowTable);
    planned.write("lengths", lengths);
  }

  /** The plan for a padded batch; the one that was used longest ago makes room. */
  async #plan(batch: number, length: number): Promise<Plan> {
    const name = `encode ${batch} × ${length}`;
    let planned = this.#plans.get(name);
    if (planned) {
      this.#plans.delete(name);
    } else {
      const rec = new ProgramRecorder(name);
      this.#record(rec, batch, length);
      planned = await plan(this.#runtime.device, rec);
      for (const [oldest, old] of this.#plans) {
        if (this.#plans.size < MOST_PLANS) break;
        this.#plans.delete(oldest);
        old.dispose();
      }
    }
    this.#plans.set(name, planned);
    return planned;
  }

  #record(rec: ProgramRecorder, batch: number, length: number): void {
    const { weights, constants } = this.#runtime;
    const { kvHeads, headDim } = this.#model.facts;
    weights.onRecord?.(rec);
    const isTensor = (node: WeightTree<Tensor>): node is Tensor => node instanceof Tensor;
    const tree: WeightTree<Value> = mapLeaves(weights.tree, isTensor, (t) => rec.weight(t));
    const rowTable = rec.input("row_table", [batch * length, 2], "u32");
    const step = denseStep({
      ...{ batch, length, rowTable, causal: false },
      tokens: rec.input("tokens", [batch * length], "u32"),
      keyLengths: rec.input("lengths", [batch], "u32"),
      constants: Object.fromEntries(Object.entries(constants).map(([key, t]) => [key, rec.weight(t)])),
    });
    const encoded = this.#model.encode(rec, tree, step);
    const pageTable = rec.state(this.cache.pageTable);
    this.#model.memory(rec, tree, encoded).forEach(({ k, v }, layer) => {
      const pool = this.cache.pools[layer];
      invariant(pool, `no memory for layer ${layer}`);
      kvAppend(rec, { k, v, kv: rec.state(pool), rowTable, pageTable }, { kvHeads, headDim });
    });
  }

  /** Lengths that plans are made for: 8, 16, 24, 32, then in steps of a quarter of a power of two. */
  #bucket(length: number): number {
    const step = Math.max(SHORTEST, 2 ** Math.floor(Math.log2(Math.max(1, length - 1)) - 1));
    return Math.min(this.contextLength, Math.ceil(length / step) * step);
  }

  /** A power of two: the least that holds what waits, the most that a pass should have. */
  #batchSize(length: number, waiting: number): number {
    const rows = this.#runtime.device.facts.software ? MOST_ROWS.software : MOST_ROWS.gpu;
    const most = 2 ** Math.max(0, Math.floor(Math.log2(rows / length)));
    return Math.min(most, 2 ** Math.ceil(Math.log2(waiting)));
  }
}
