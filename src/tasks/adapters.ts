import { HeedError } from "../core/errors.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { Model, WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import { adaptLinears, type LinearModule, linearModules, type LoraLayer, loraScale } from "../models/lora.ts";
import { type LoadedLora, readLora, type SavedTensor } from "../models/lora_files.ts";
import { floatsToHalves, mergeLoraLayer } from "../models/lora_merge.ts";

/** How an adapter is loaded. */
export interface LoadAdapterOptions extends ReadOptions {
  /** What {@link Adapters.use} and {@link Adapters.merge} call it. Default: where it came from. */
  readonly name?: string;
  /** Rank that the slots have room for, so that adapters of higher rank can follow without new plans. Default: the adapter's. */
  readonly slotRank?: number;
}

/** The model that adapters are for. */
export interface AdaptedModel {
  readonly model: Model;
  /** Theirs is what adapters record. */
  readonly weights: LoadedWeights;
  /** Of `model.rules`. */
  readonly tree: WeightTree<Tensor>;
  /** What an adapter may bring whole: the head of an encoder. */
  readonly head?: readonly SavedTensor[];
  /** Throws `USAGE` while something runs on the weights. */
  checkIdle(what: string): void;
  /** Forgets every plan, so that the next ones are recorded with the slots as they are now. */
  forgetPlans(): Promise<void>;
}

/**
 * The LoRA adapters of a loaded model. Beside each linear layer that one of them adapts there is a slot of fixed rank, which every
 * plan computes; switching copies an adapter's matrices into the slots, zeros where it has none. A model without adapters has no slots.
 */
export class Adapters {
  readonly #owner: AdaptedModel;
  readonly #modules: readonly LinearModule[];
  readonly #loaded = new Map<string, LoadedLora>();
  /** Tensors that an adapter brings whole, as they are without one. */
  readonly #originals = new Map<Tensor, Uint8Array<ArrayBuffer>>();
  #slots: LoraLayer[] = [];
  #rank = 0;
  #used: string | undefined;

  constructor(owner: AdaptedModel) {
    this.#owner = owner;
    this.#modules = linearModules(owner.model, owner.tree);
  }

  /** Names of the loaded adapters. */
  get names(): string[] {
    return [...this.#loaded.keys()];
  }

  /** The adapter in use. */
  get used(): string | undefined {
    return this.#used;
  }

  /** Reads an adapter in PEFT's format and resolves with its name. Throws `BAD_FILE`, `UNSUPPORTED`, and `USAGE` while something runs. */
  async load(
    source: Source,
    { name = source.description, slotRank = 0, ...options }: LoadAdapterOptions = {},
  ): Promise<string> {
    if (this.#loaded.has(name)) {
      throw new HeedError("USAGE", `adapter: names must differ; got a second "${name}". Give it another name.`);
    }
    const { model, head = [] } = this.#owner;
    const adapter = await readLora(source, this.#modules, model.prefixes, { ...options, head });
    for (const { tensor } of adapter.saved) {
      if (tensor.dtype !== "f32" && tensor.dtype !== "f16") throw packedWeights(tensor.label, tensor.dtype);
      if (!this.#originals.has(tensor)) this.#originals.set(tensor, new Uint8Array(await tensor.read()));
    }
    await this.#makeRoom(adapter, Math.max(slotRank, adapter.config.rank));
    this.#loaded.set(name, adapter);
    return name;
  }

  /** Computes with an adapter from now on, or with none. Throws `USAGE` for a name that was not loaded, and while something runs. */
  use(name: string | undefined): void {
    const adapter = name === undefined ? undefined : this.#find(name);
    this.#owner.checkIdle("useAdapter");
    for (const slot of this.#slots) this.#fill(slot, adapter);
    for (const [tensor, original] of this.#originals) tensor.write(0, savedBytes(tensor, adapter) ?? original);
    this.#used = name;
  }

  /**
   * Adds an adapter to the weights themselves, for good, and forgets it; it then costs nothing. Throws `UNSUPPORTED` for packed
   * weights, which have no room for it.
   */
  async merge(name: string): Promise<void> {
    const adapter = this.#find(name);
    this.#owner.checkIdle("mergeAdapter");
    const packed = adapter.layers.find(({ module }) => module.weight.dtype !== "f32" && module.weight.dtype !== "f16");
    if (packed) throw packedWeights(packed.module.name, packed.module.weight.dtype);
    if (this.#used === name) this.use(undefined);
    for (const layer of adapter.layers) await mergeLoraLayer(layer, loraScale(adapter.config));
    for (const { tensor } of adapter.saved) {
      const bytes = savedBytes(tensor, adapter);
      if (bytes) this.#originals.set(tensor, bytes);
    }
    this.use(this.#used);
    this.#loaded.delete(name);
  }

  /** Frees the slots. */
  dispose(): void {
    for (const { a, b } of this.#slots) for (const tensor of [a, b]) tensor.dispose();
    this.#slots = [];
  }

  #find(name: string): LoadedLora {
    const adapter = this.#loaded.get(name);
    if (adapter) return adapter;
    const there = this.names.map((known) => `"${known}"`).join(", ") || "none";
    throw new HeedError("USAGE", `adapter: one that was loaded is needed; got "${name}". There are ${there}.`);
  }

  /** Slots for every layer of the adapter, of its rank at least. */
  async #makeRoom({ layers }: LoadedLora, rank: number): Promise<void> {
    const modules = new Set([...this.#slots.map(({ module }) => module), ...layers.map(({ module }) => module)]);
    if (rank <= this.#rank && modules.size === this.#slots.length) return;
    this.#owner.checkIdle("loadAdapter");
    const old = this.#slots;
    const most = Math.max(rank, this.#rank);
    const made: LoraLayer[] = [];
    const { device } = [...modules][0]?.weight ?? {};
    if (!device) throw new HeedError("BAD_FILE", "adapter: it must have layers; got none.");
    try {
      for (const module of modules) {
        const a = Tensor.create(device, `${module.name}.slot_A`, [most, module.columns], "f32");
        // Its scale is in B, since slots are shared by adapters of any.
        made.push({
          module,
          a,
          b: Tensor.create(device, `${module.name}.slot_B`, [module.rows, most], "f32"),
          scale: 1,
        });
      }
      await this.#owner.forgetPlans();
    } catch (error) {
      for (const { a, b } of made) for (const tensor of [a, b]) tensor.dispose();
      throw error;
    }
    this.#slots = made;
    this.#rank = most;
    this.#owner.weights.onRecord = (rec) => adaptLinears(rec, this.#slots, { value: (tensor) => rec.weight(tensor) });
    this.use(this.#used);
    for (const { a, b } of old) for (const tensor of [a, b]) tensor.dispose();
  }

  #fill({ module, a, b }: LoraLayer, adapter: LoadedLora | undefined): void {
    const [left, right] = [new Float32Array(this.#rank * module.columns), new Float32Array(module.rows * this.#rank)];
    const own = adapter?.layers.find((layer) => layer.module === module);
    if (own && adapter) {
      const { rank } = adapter.config;
      const scale = loraScale(adapter.config);
      left.set(own.a);
      for (let row = 0; row < module.rows; row++) {
        for (let i = 0; i < rank; i++) right[row * this.#rank + i] = scale * (own.b[row * rank + i] ?? 0);
      }
    }
    a.write(0, new Uint8Array(left.buffer));
    b.write(0, new Uint8Array(right.buffer));
  }
}

/** What an adapter puts in a tensor's place, if anything. */
function savedBytes(tensor: Tensor, adapter: LoadedLora | undefined): Uint8Array<ArrayBuffer> | undefined {
  const data = adapter?.saved.find((own) => own.tensor === tensor)?.data;
  return data && new Uint8Array(tensor.dtype === "f16" ? floatsToHalves(data).buffer : data.buffer);
}

function packedWeights(layer: string, dtype: string): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `adapter: only f32 and f16 weights can take one in; got ${layer} in ${dtype}. Use it beside the weights.`,
  );
}
