import { bytesPerElement } from "../core/dtype.ts";
import { HeedError, invariant } from "../core/errors.ts";
import { ceilDiv, numel } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type KvDType, PAGE_TOKENS, poolTensor } from "../ops/kv_pool.ts";
import { PagePool } from "./page_pool.ts";

/** What the keys and values of one model take. */
export interface KvCacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly dtype: KvDType;
  /** Longest sequence, in tokens. */
  readonly contextLength: number;
  /** Tokens that all sequences together may hold; rounded up to pages. */
  readonly cacheTokens: number;
  /** Sequences that may exist at once. */
  readonly maxSequences: number;
}

/**
 * Keys and values of all sequences of a model: per layer one pool `[pages, 2, Hkv, 32, D]` (K, then V; q8_0: blocks of words) and for all
 * layers one table `[maxSequences, maxPages]` that says where a sequence's pages are. Capacity is fixed: a cache that
 * grows makes each token slower.
 */
export class KvCache {
  readonly shape: KvCacheShape;
  readonly device: Device;
  readonly pools: readonly Tensor[];
  readonly pageTable: Tensor;
  readonly maxPages: number;
  /** WebGPU copies between buffers only, so a page goes by way of this one. */
  readonly #transit: GPUBuffer;
  readonly #pages: PagePool;
  readonly #freeSlots: number[];
  #disposed = false;

  constructor(device: Device, shape: KvCacheShape) {
    this.device = device;
    this.shape = shape;
    this.maxPages = ceilDiv(shape.contextLength, PAGE_TOKENS);
    const pages = ceilDiv(shape.cacheTokens, PAGE_TOKENS);
    this.#pages = new PagePool(pages);
    this.#freeSlots = Array.from({ length: shape.maxSequences }, (_, i) => shape.maxSequences - 1 - i);
    const pool = poolTensor(shape.dtype, { ...shape, pages });
    const poolBytes = numel(pool.shape) * bytesPerElement(pool.dtype);
    const limit = device.raw.limits.maxStorageBufferBindingSize;
    if (poolBytes > limit) {
      throw new HeedError(
        "LIMIT",
        `kv cache: a layer's ${shape.cacheTokens} tokens take ${poolBytes} bytes, a binding holds ${limit}. Lower cacheTokens.`,
      );
    }
    const made: Tensor[] = [];
    let transit: GPUBuffer | undefined;
    try {
      for (let i = 0; i < shape.layers; i++) made.push(Tensor.create(device, `kv_cache.${i}`, pool.shape, pool.dtype));
      const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      transit = device.createBuffer("kv_cache.transit", poolBytes / pages, usage);
      this.pageTable = Tensor.create(device, "kv_cache.page_table", [shape.maxSequences, this.maxPages], "u32");
    } catch (error) {
      for (const t of made) t.dispose();
      if (transit) device.destroyBuffer(transit);
      throw error;
    }
    this.#transit = transit;
    this.pools = made;
  }

  /** Opens an empty sequence. Throws `LIMIT` when `maxSequences` are open. */
  open(): CachedSequence {
    this.checkUsable();
    const slot = this.#freeSlots.pop();
    if (slot === undefined) {
      throw new HeedError(
        "LIMIT",
        `kv cache: ${this.shape.maxSequences} sequences are open. Dispose some, or load the model with a larger maxSequences.`,
      );
    }
    return new CachedSequence(this, this.#pages, slot, (s) => this.#freeSlots.push(s));
  }

  /** Copies a page in every layer, on the GPU. */
  copyPage(from: number, to: number): void {
    this.checkUsable();
    const encoder = this.device.raw.createCommandEncoder({ label: "KvCache.copyPage" });
    for (const pool of this.pools) {
      const [part] = pool.parts;
      invariant(part, "a pool has no buffer");
      const bytes = pool.sizeBytes / this.#pages.pages;
      encoder.copyBufferToBuffer(part.buffer, from * bytes, this.#transit, 0, bytes);
      encoder.copyBufferToBuffer(this.#transit, 0, part.buffer, to * bytes, bytes);
    }
    this.device.raw.queue.submit([encoder.finish()]);
  }

  /** Throws `DISPOSED` after {@link dispose}. */
  checkUsable(): void {
    if (this.#disposed) throw new HeedError("DISPOSED", "kv cache: its model was disposed. Load it again.");
  }

  dispose(): void {
    this.#disposed = true;
    for (const pool of this.pools) pool.dispose();
    this.device.destroyBuffer(this.#transit);
    this.pageTable.dispose();
  }
}

/** One sequence's pages. `length` counts the tokens whose keys and values are in the cache. */
export class CachedSequence {
  readonly slot: number;
  /** In encoder–decoders: the source that its tokens attend to, in a cache of its own. Forks share it; its owner disposes it. */
  memory: CachedSequence | undefined;
  readonly #cache: KvCache;
  readonly #pool: PagePool;
  readonly #freeSlot: (slot: number) => void;
  readonly #pages: number[] = [];
  #length = 0;
  #disposed = false;

  constructor(cache: KvCache, pool: PagePool, slot: number, freeSlot: (slot: number) => void) {
    this.#cache = cache;
    this.#pool = pool;
    this.slot = slot;
    this.#freeSlot = freeSlot;
  }

  get length(): number {
    return this.#length;
  }

  get pages(): readonly number[] {
    return this.#pages;
  }

  /**
   * Makes room to write positions `length … length + tokens − 1`: takes pages, and copies the part-filled last page
   * first if another sequence shares it. Throws `LIMIT` past the context or the pool, leaving the sequence as it was.
   */
  reserve(tokens: number): void {
    this.#checkUsable();
    const end = this.#length + tokens;
    if (end > this.#cache.shape.contextLength) {
      throw new HeedError(
        "LIMIT",
        `kv cache: ${end} tokens are more than the context of ${this.#cache.shape.contextLength}. Shorten the prompt or rewind.`,
      );
    }
    const needed = ceilDiv(end, PAGE_TOKENS);
    const first = Math.floor(this.#length / PAGE_TOKENS);
    const taken: number[] = [];
    try {
      const shared = this.#pages[first];
      if (tokens > 0 && shared !== undefined && this.#pool.isShared(shared)) {
        const copy = this.#pool.allocate();
        if (this.#length % PAGE_TOKENS !== 0) this.#cache.copyPage(shared, copy);
        this.#pages[first] = copy;
        this.#pool.release(shared);
        this.#write(first);
      }
      while (this.#pages.length + taken.length < needed) taken.push(this.#pool.allocate());
    } catch (error) {
      for (const page of taken) this.#pool.release(page);
      throw error;
    }
    for (const page of taken) {
      this.#pages.push(page);
      this.#write(this.#pages.length - 1);
    }
  }

  /** Says that `tokens` more are written. */
  advance(tokens: number): void {
    invariant(this.#length + tokens <= this.#pages.length * PAGE_TOKENS, "a sequence advanced past its pages");
    this.#length += tokens;
  }

  /** Forgets all but the first `length` tokens and frees the pages behind them. */
  rewind(length: number): void {
    this.#checkUsable();
    if (!Number.isInteger(length) || length < 0 || length > this.#length) {
      throw new HeedError("USAGE", `session: rewind to a length between 0 and ${this.#length}; got ${length}`);
    }
    this.#length = length;
    for (const page of this.#pages.splice(ceilDiv(length, PAGE_TOKENS))) this.#pool.release(page);
  }

  /** A second sequence with the same tokens. Pages are shared; the part-filled last one is copied at the first write. */
  fork(): CachedSequence {
    this.#checkUsable();
    const twin = this.#cache.open();
    for (const page of this.#pages.slice(0, ceilDiv(this.#length, PAGE_TOKENS))) {
      twin.#pages.push(this.#pool.share(page));
      twin.#write(twin.#pages.length - 1);
    }
    twin.#length = this.#length;
    twin.memory = this.memory;
    return twin;
  }

  /** Frees the pages and the slot. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const page of this.#pages.splice(0)) this.#pool.release(page);
    this.#freeSlot(this.slot);
  }

  #write(index: number): void {
    const page = this.#pages[index];
    invariant(page !== undefined, "a page table entry without a page");
    const bytes = new Uint8Array(new Uint32Array([page]).buffer);
    this.#cache.pageTable.write((this.slot * this.#cache.maxPages + index) * 4, bytes);
  }

  #checkUsable(): void {
    this.#cache.checkUsable();
    if (this.#disposed) throw new HeedError("DISPOSED", "session: used after it was disposed");
  }
}
