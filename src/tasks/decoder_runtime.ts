import { bytesPerElement } from "../core/dtype.ts";
import { HeedError, invariant, throwIfAborted } from "../core/errors.ts";
import { ceilDiv, numel } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type Decoder, type EncoderDecoder, mapLeaves, type WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import { type CachedSequence, KvCache } from "../nn/kv_cache.ts";
import { cachedStep, type CachedStepParts, NO_SLOT } from "../nn/step.ts";
import { attentionQueryTile } from "../ops/attention.ts";
import { isKvDType, KV_BLOCK, type KvDType, PAGE_TOKENS, poolTensor } from "../ops/kv_pool.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import { EncoderMemory } from "./encoder_memory.ts";
import { chunkRows } from "./prefill_chunks.ts";
import { checkTokenIds } from "./token_ids.ts";

/** Sizes of the KV cache. */
export interface CacheOptions {
  /** Tokens that all sequences together may hold. Default: four contexts, but at most 512 MiB, and at least 1,024 tokens. */
  readonly cacheTokens?: number;
  /** Sequences that may be open at once; default 16. */
  readonly maxSequences?: number;
  /**
   * Default: f16 where the weights are f16, else f32. `q8_0` keeps 32 channels in 36 bytes, for heads whose size is a multiple
   * of 32: 9/32 of f32's memory.
   */
  readonly cacheDtype?: KvDType;
}

/** What recording a step on the cache gives to work with. */
export interface RecordedStep {
  readonly rec: ProgramRecorder;
  readonly tokens: Value;
  readonly rowTable: Value;
  readonly hidden: Value;
  logits(hidden: Value): Value;
}

/** How {@link DecoderRuntime.logits} computes. */
export interface LogitsOptions {
  /** So many first tokens see each other both ways; default 0. */
  readonly prefix?: number;
  /** In encoder–decoders: the source that the ids attend to. */
  readonly memory?: CachedSequence | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface ChunkOptions {
  /** Of the plan. */
  readonly rows: number;
  /** Set where the plan's tiles have one. */
  readonly prefix?: number | undefined;
  /** Tokens that count as written; default all of the chunk. */
  readonly advance?: number;
  readonly signal?: AbortSignal | undefined;
}

const DEFAULT_CACHE_BYTES = 512 << 20;
const MIN_CACHE_TOKENS = 1024;
const MOST_SEQUENCES = 4096;
const DEFAULT_SEQUENCES = 16;

/** Rows of a plan that computes the logits of every position. */
const LOGITS_ROWS = 32;

/** A loaded decoder with its cache and its plans: prompts in, states of the cache out. Plans are made once and replayed. */
export class DecoderRuntime {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly weights: LoadedWeights;
  readonly cache: KvCache;
  /** Set in encoder–decoders: what the decoder's rows attend to beside each other. */
  readonly memory: EncoderMemory | undefined;
  /** The family's constants for every position of the context, such as the rotary table. */
  readonly constants: Readonly<Record<string, Tensor>>;
  /** Tokens that one sequence may have. */
  readonly contextLength: number;
  readonly #plans = new Map<string, Promise<Plan>>();
  readonly #running = new Set<Promise<unknown>>();
  #disposed = false;

  constructor(device: Device, decoder: Decoder, weights: LoadedWeights, options: CacheOptions = {}) {
    this.device = device;
    this.decoder = decoder;
    this.weights = weights;
    const { layers, kvHeads, headDim, shortContext } = decoder.facts;
    // A model that turns long contexts otherwise is at its best within the short one: the long one is for those who ask.
    const isShort = shortContext !== undefined && (options.cacheTokens ?? 0) <= shortContext;
    const contextLength = isShort ? Math.min(shortContext, decoder.facts.contextLength) : decoder.facts.contextLength;
    if (headDim % 4 !== 0) {
      throw new HeedError(
        "UNSUPPORTED",
        `${decoder.family}: the cache needs a head size that is a multiple of 4; got ${headDim}.`,
      );
    }
    const dtype = checkCacheDtype(options.cacheDtype ?? weights.dtype, decoder);
    const layerBytes = bytesOf(poolTensor(dtype, { pages: 1, kvHeads, headDim })) / PAGE_TOKENS;
    const affordable = Math.max(MIN_CACHE_TOKENS, Math.floor(DEFAULT_CACHE_BYTES / (layers * layerBytes)));
    const bindable =
      Math.floor(device.raw.limits.maxStorageBufferBindingSize / (layerBytes * PAGE_TOKENS)) * PAGE_TOKENS;
    const byDefault = Math.min(Math.max(4 * contextLength, MIN_CACHE_TOKENS), affordable, bindable);
    const cacheTokens = positiveInteger("cacheTokens", options.cacheTokens ?? byDefault, 1 << 30);
    this.contextLength = Math.min(contextLength, ceilDiv(cacheTokens, PAGE_TOKENS) * PAGE_TOKENS);
    const maxSequences = positiveInteger("maxSequences", options.maxSequences ?? DEFAULT_SEQUENCES, MOST_SEQUENCES);
    const shape = { layers, kvHeads, headDim, dtype, contextLength: this.contextLength, cacheTokens, maxSequences };
    this.cache = new KvCache(device, shape);
    const constants: Record<string, Tensor> = {};
    try {
      const sources = isEncoderDecoder(decoder) ? decoder.facts.encoder.contextLength : 0;
      for (const [name, table] of Object.entries(decoder.constants(Math.max(this.contextLength, sources)))) {
        constants[name] = Tensor.from(device, name, table.shape, "f32", table.data);
      }
      this.memory = isEncoderDecoder(decoder) ? new EncoderMemory(this, decoder, shape) : undefined;
    } catch (error) {
      for (const t of Object.values(constants)) t.dispose();
      this.cache.dispose();
      throw error;
    }
    this.constants = constants;
  }

  /**
   * Records the forward pass of a step: tokens and row table are inputs, or the given states. With `tiles`, the rows
   * are a prefill chunk, whose tiles have a prefix each if `prefix` is set; without, each row is the newest token of its own
   * sequence.
   */
  record(
    rec: ProgramRecorder,
    rows: number,
    options: {
      readonly tiles?: number;
      readonly prefix?: boolean;
      readonly tokens?: Value;
      readonly rowTable?: Value;
      readonly onAttend?: CachedStepParts["onAttend"];
      readonly onAttendMemory?: CachedStepParts["onAttendMemory"];
    } = {},
  ): RecordedStep {
    const { decoder, weights, cache } = this;
    const tokens = options.tokens ?? rec.input("tokens", [rows], "u32");
    const rowTable = options.rowTable ?? rec.input("row_table", [rows, 2], "u32");
    const isTensor = (node: WeightTree<Tensor>): node is Tensor => node instanceof Tensor;
    weights.onRecord?.(rec);
    const tree = mapLeaves(weights.tree, isTensor, (t) => rec.weight(t));
    const step = cachedStep({
      tokens,
      rowTable,
      pageTable: rec.state(cache.pageTable),
      pools: cache.pools.map((p) => rec.state(p)),
      constants: Object.fromEntries(Object.entries(this.constants).map(([name, t]) => [name, rec.weight(t)])),
      tileTable:
        options.tiles === undefined
          ? undefined
          : rec.input("tile_table", [options.tiles, options.prefix ? 8 : 4], "u32"),
      onAttend: options.onAttend,
      onAttendMemory: options.onAttendMemory,
      memory: this.memory?.record(rec, rows),
    });
    const hidden = decoder.hidden(rec, tree, step);
    return { rec, tokens, rowTable, hidden, logits: (h) => decoder.logits(rec, tree, h) };
  }

  /** Computes keys and values of `ids` and appends them to the sequence. On an abort the sequence is as it was. */
  prefill(sequence: CachedSequence, ids: readonly number[], signal?: AbortSignal): Promise<void> {
    return this.track(() => this.#prefill(sequence, ids, signal));
  }

  /**
   * Computes keys and values of tokens that see each other both ways, the first of an empty sequence, in one chunk; the
   * first `kept` of them count as written. On an abort the sequence is as it was.
   */
  prefillPrefix(sequence: CachedSequence, ids: readonly number[], kept: number, signal?: AbortSignal): Promise<void> {
    return this.track(async () => {
      invariant(sequence.length === 0, "a prefix behind other tokens");
      throwIfAborted(signal, "generate");
      // Every layer's keys of the whole prefix are needed before its attention runs.
      const rows = wholeRows(ids.length);
      const planned = await this.plan(`prefill ${rows} with prefix`, (rec) => {
        const step = this.record(rec, rows, { tiles: this.#tiles(rows), prefix: true });
        rec.output("hidden", step.hidden);
      });
      try {
        await planned.turn(() =>
          this.#runChunk(planned, sequence, ids, { rows, prefix: ids.length, advance: kept, signal }),
        );
      } catch (error) {
        sequence.rewind(0);
        throw error;
      }
    });
  }

  async #prefill(sequence: CachedSequence, ids: readonly number[], signal?: AbortSignal): Promise<void> {
    const start = sequence.length;
    try {
      for (let at = 0; at < ids.length; ) {
        throwIfAborted(signal, "generate");
        const rows = chunkRows(ids.length - at, this.device.facts.software);
        const chunk = ids.slice(at, at + rows);
        const prefill = await this.plan(`prefill ${rows}`, (rec) => {
          const step = this.record(rec, rows, { tiles: this.#tiles(rows) });
          rec.output("hidden", step.hidden);
        });
        await prefill.turn(() => this.#runChunk(prefill, sequence, chunk, { rows, signal }));
        at += chunk.length;
      }
    } catch (error) {
      // Also after the first chunk, to give back the pages that were reserved for it.
      sequence.rewind(start);
      throw error;
    }
  }

  /**
   * Logits of every position of `ids`, `[ids.length][V]`, computed on a sequence of its own; the first `prefix` tokens see each
   * other both ways.
   */
  logits(ids: readonly number[], options: LogitsOptions = {}): Promise<Float32Array[]> {
    return this.track(() => this.#logits(ids, options));
  }

  async #logits(ids: readonly number[], { prefix = 0, memory, signal }: LogitsOptions): Promise<Float32Array[]> {
    this.checkIds(ids);
    if (ids.length > this.contextLength) {
      throw new HeedError(
        "LIMIT",
        `logits: ${ids.length} tokens are more than the context of ${this.contextLength}. Shorten the text, or load the model with a larger cacheTokens.`,
      );
    }
    const sequence = this.cache.open();
    sequence.memory = memory;
    try {
      const all: Float32Array[] = [];
      const { vocabSize } = this.decoder.facts;
      // The prefix' keys are computed first; the rows that give its logits then find them, and write them once more.
      if (prefix > 0) await this.prefillPrefix(sequence, ids.slice(0, prefix), 0, signal);
      const planned = await this.plan(`logits ${LOGITS_ROWS}${prefix > 0 ? " with prefix" : ""}`, (rec) => {
        const step = this.record(rec, LOGITS_ROWS, { tiles: this.#tiles(LOGITS_ROWS), prefix: prefix > 0 });
        rec.output("logits", step.logits(step.hidden));
      });
      for (let at = 0; at < ids.length; at += LOGITS_ROWS) {
        const chunk = ids.slice(at, at + LOGITS_ROWS);
        const values = await planned.turn(async () => {
          await this.#runChunk(planned, sequence, chunk, { rows: LOGITS_ROWS, prefix: prefix || undefined, signal });
          return new Float32Array(await planned.readOutput("logits"));
        });
        for (let i = 0; i < chunk.length; i++) all.push(values.slice(i * vocabSize, (i + 1) * vocabSize));
      }
      return all;
    } finally {
      sequence.dispose();
    }
  }

  /** Runs a call that {@link dispose} waits for; throws `DISPOSED` once it was called. */
  async track<T>(work: () => Promise<T>): Promise<T> {
    this.#checkUsable();
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  #checkUsable(): void {
    if (this.#disposed) throw new HeedError("DISPOSED", "model: used after it was disposed. Load it again.");
  }

  /** The plan of that name, made at the first call. */
  plan(name: string, record: (rec: ProgramRecorder) => void): Promise<Plan> {
    this.#checkUsable();
    let planned = this.#plans.get(name);
    if (!planned) {
      const rec = new ProgramRecorder(name);
      record(rec);
      planned = plan(this.device, rec);
      this.#plans.set(name, planned);
      // A failed plan may succeed later, when memory is free again.
      planned.catch(() => this.#plans.delete(name));
    }
    return planned;
  }

  /** Frees every plan, once what runs has ended; the next calls record them anew. */
  async forgetPlans(): Promise<void> {
    await Promise.allSettled(this.#running);
    const plans = [...this.#plans.values()];
    this.#plans.clear();
    for (const planned of await Promise.allSettled(plans)) if (planned.status === "fulfilled") planned.value.dispose();
    await this.memory?.forgetPlans();
  }

  /** Throws for ids that are no whole numbers below the vocabulary's size, as {@link checkTokenIds}. */
  checkIds(ids: readonly number[], { op = "generate", text = false }: { op?: string; text?: boolean } = {}): void {
    if (!Array.isArray(ids)) {
      throw new HeedError(
        "USAGE",
        `${op}: a prompt is text or an array of token ids; got ${typeof ids}. Options come second.`,
      );
    }
    checkTokenIds(op, ids, { vocabSize: this.decoder.facts.vocabSize, text });
  }

  /** Frees weights, cache and plans. Idempotent. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.allSettled(this.#running);
    for (const planned of await Promise.allSettled(this.#plans.values())) {
      if (planned.status === "fulfilled") planned.value.dispose();
    }
    for (const t of Object.values(this.constants)) t.dispose();
    await this.memory?.dispose();
    this.cache.dispose();
    this.weights.dispose();
  }

  #tiles(rows: number): number {
    return ceilDiv(rows, attentionQueryTile(this.device.facts));
  }

  async #runChunk(
    planned: Plan,
    sequence: CachedSequence,
    chunk: readonly number[],
    { rows, prefix, advance = chunk.length, signal }: ChunkOptions,
  ): Promise<void> {
    throwIfAborted(signal, "generate");
    this.#checkUsable();
    sequence.reserve(chunk.length);
    const tokens = new Uint32Array(rows);
    tokens.set(chunk);
    const rowTable = new Uint32Array(rows * 2).fill(NO_SLOT);
    for (let i = 0; i < chunk.length; i++) rowTable.set([sequence.slot, sequence.length + i], i * 2);
    const tile = attentionQueryTile(this.device.facts);
    const tiles = ceilDiv(chunk.length, tile);
    const words = prefix === undefined ? 4 : 8;
    const tileTable = new Uint32Array(this.#tiles(rows) * words);
    for (let i = 0; i < tiles; i++) {
      const places = [i * tile, Math.min(tile, chunk.length - i * tile), sequence.slot, sequence.length + i * tile];
      tileTable.set(prefix === undefined ? places : [...places, prefix], i * words);
    }
    planned.write("tokens", tokens);
    planned.write("row_table", rowTable);
    planned.write("tile_table", tileTable);
    const inChunk = Array.from({ length: chunk.length }, () => sequence);
    const sourceKeys = this.memory?.place(planned, inChunk, rows) ?? 0;
    await planned.run({ tiles, keys: Math.max(sequence.length + chunk.length, sourceKeys) }, { signal });
    sequence.advance(advance);
  }
}

function checkCacheDtype(dtype: string, { family, facts }: Decoder): KvDType {
  if (!isKvDType(dtype)) throw new HeedError("USAGE", `load: cacheDtype must be f32, f16 or q8_0; got ${dtype}.`);
  if (dtype === "q8_0" && facts.headDim % KV_BLOCK !== 0) {
    throw new HeedError(
      "UNSUPPORTED",
      `${family}: a cache in q8_0 needs a head size that is a multiple of ${KV_BLOCK}; got ${facts.headDim}. Use cacheDtype f16.`,
    );
  }
  return dtype;
}

function bytesOf({ shape, dtype }: ReturnType<typeof poolTensor>): number {
  return numel(shape) * bytesPerElement(dtype);
}

function isEncoderDecoder(decoder: Decoder): decoder is EncoderDecoder {
  return "encode" in decoder;
}

/** Rows of a plan that takes so many tokens at once: powers of two, so that few plans exist. */
function wholeRows(tokens: number): number {
  return 2 ** Math.max(3, Math.ceil(Math.log2(tokens)));
}

function positiveInteger(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new HeedError("USAGE", `load: ${name} must be a whole number from 1 to ${most}; got ${value}.`);
}
