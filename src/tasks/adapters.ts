import { HeedError } from "../core/errors.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { Model, WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import { adaptLinears, type LinearModule, linearModules, type LoraLayer } from "../models/lora.ts";
import { adaptedLengths } from "../models/lora_lengths.ts";
import { mergeLoraLayer } from "../models/lora_merge.ts";
import { type LoadedLayer, type LoadedLora, type LoraBase, readLora, type Replacement } from "../models/lora_read.ts";
import { type WeightPlace, weightPlaces } from "../models/weight_places.ts";
import { adaptedTable, layerBias, tiedTable } from "./adapter_tensors.ts";

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
  /** Throws `USAGE` while something runs on the weights. */
  checkIdle(what: string): void;
  /** Forgets every plan, so that the next ones are recorded with the slots as they are now. */
  forgetPlans(): Promise<void>;
}

/** DoRA's change of a layer's own result: `gain · out + shift`, both `[rows]`. */
interface Change {
  readonly gain: Float32Array<ArrayBuffer>;
  readonly shift: Float32Array<ArrayBuffer>;
}

/** An adapter with what follows from the weights that it is beside. */
interface ReadyLora {
  readonly lora: LoadedLora;
  readonly changes: ReadonlyMap<LinearModule, Change>;
  /** The file's, and the tables that its matrices change. */
  readonly replacements: readonly Replacement[];
}

/**
 * The LoRA adapters of a loaded model. Beside each linear layer that one of them adapts there is a slot, which every plan computes;
 * switching copies an adapter's matrices into the slots, zeros where it has none, and what it brings whole into the weights themselves,
 * of which the bytes are kept. A model without adapters has no slots.
 */
export class Adapters {
  readonly #owner: AdaptedModel;
  readonly #base: LoraBase;
  readonly #loaded = new Map<string, ReadyLora>();
  /** Tensors that an adapter brings whole or in part, as they are without one. */
  readonly #originals = new Map<Tensor, Uint8Array<ArrayBuffer>>();
  /** Those of them that hold what the adapter in use brings. */
  readonly #changed = new Set<Tensor>();
  #slots: LoraLayer[] = [];
  /** What a head reads in the place of the table that it is tied to, once an adapter sets them apart. */
  #head: WeightPlace | undefined;
  #recordedHead: WeightPlace | undefined;
  #used: string | undefined;

  constructor(owner: AdaptedModel) {
    this.#owner = owner;
    const { model, tree } = owner;
    const places = weightPlaces(model, tree);
    const table = tiedTable(places);
    this.#base = {
      ...{ places, modules: linearModules(model, tree), prefixes: model.prefixes, ignored: model.ignored },
      sharesTable: "encode" in model,
      tied: table && { table: table.tensor, ownHead: () => this.#ownHead(table) },
    };
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
    const lora = await readLora(source, this.#base, options);
    for (const tensor of [...lora.replacements, ...lora.tables.map(({ place }) => place)].map((one) => one.tensor)) {
      if (!this.#originals.has(tensor)) this.#originals.set(tensor, new Uint8Array(await tensor.read()));
    }
    const ready = await this.#ready(lora);
    await this.#makeRoom(lora, slotRank);
    this.#loaded.set(name, ready);
    return name;
  }

  /** Computes with an adapter from now on, or with none. Throws `USAGE` for a name that was not loaded, and while something runs. */
  use(name: string | undefined): void {
    const adapter = name === undefined ? undefined : this.#find(name);
    this.#owner.checkIdle("useAdapter");
    for (const slot of this.#slots) fill(slot, adapter);
    for (const tensor of this.#changed) tensor.write(0, this.#originals.get(tensor) ?? new Uint8Array());
    this.#changed.clear();
    for (const { tensor, start, bytes, withHead } of adapter?.replacements ?? []) {
      for (const own of withHead && this.#head ? [tensor, this.#head.tensor] : [tensor]) {
        own.write(start, bytes);
        this.#changed.add(own);
      }
    }
    this.#used = name;
  }

  /**
   * Adds an adapter to the weights themselves, for good, and forgets it; it then costs nothing. Throws `UNSUPPORTED` for packed
   * weights, which have no room for it.
   */
  async merge(name: string): Promise<void> {
    const adapter = this.#find(name);
    const { layers } = adapter.lora;
    this.#owner.checkIdle("mergeAdapter");
    const packed = layers.find(({ module }) => module.weight.dtype !== "f32" && module.weight.dtype !== "f16");
    if (packed) throw packedWeights(packed.module);
    // The weights as they are with all that the adapter brings whole, beside which its matrices were trained.
    const used = this.#used === name ? undefined : this.#used;
    this.use(name);
    for (const layer of layers) await mergeLoraLayer(layer, layer.scale);
    for (const tensor of [...this.#changed, ...layers.map(({ module }) => module.weight)]) {
      if (this.#originals.has(tensor)) this.#originals.set(tensor, new Uint8Array(await tensor.read()));
    }
    this.#loaded.delete(name);
    this.use(undefined);
    for (const [other, { lora }] of this.#loaded) this.#loaded.set(other, await this.#ready(lora));
    this.use(used);
  }

  /** Frees the slots. */
  dispose(): void {
    for (const slot of this.#slots) disposeSlot(slot);
    this.#slots = [];
    this.#head?.tensor.dispose();
  }

  #find(name: string): ReadyLora {
    const adapter = this.#loaded.get(name);
    if (adapter) return adapter;
    const there = this.names.map((known) => `"${known}"`).join(", ") || "none";
    throw new HeedError("USAGE", `adapter: one that was loaded is needed; got "${name}". There are ${there}.`);
  }

  /** What follows for an adapter from the weights as they are without one. */
  async #ready(lora: LoadedLora): Promise<ReadyLora> {
    const changes = new Map<LinearModule, Change>();
    for (const layer of lora.layers) {
      const { module, magnitude } = layer;
      if (!magnitude) continue;
      const lengths = await adaptedLengths(module.weight.device, layer);
      const bias = await layerBias(module, this.#base.places, lora.replacements, this.#originals);
      const gain = magnitude.map((length, i) => length / (lengths[i] || 1));
      changes.set(module, { gain, shift: gain.map((own, i) => (1 - own) * (bias?.[i] ?? 0)) });
    }
    const tables = lora.tables.map((table) => adaptedTable(table, lora.replacements, this.#originals));
    return { lora, changes, replacements: [...lora.replacements, ...tables] };
  }

  /** A head of its own for a model whose head reads the table: a copy, from which plans will compute. */
  async #ownHead(table: WeightPlace): Promise<WeightPlace> {
    if (this.#head) return this.#head;
    const { device, shape, dtype } = table.tensor;
    const tensor = Tensor.create(device, "lm_head.weight", shape, dtype);
    const original = this.#originals.get(table.tensor) ?? new Uint8Array(await table.tensor.read());
    tensor.write(0, original);
    this.#originals.set(tensor, original);
    const rule = { from: [tensor.label], shape, role: "matrix" as const };
    this.#head = { name: tensor.label, tensor, rule, rowStart: 0, rows: table.rows };
    return this.#head;
  }

  /** Slots for every layer of the adapter, of its rank at least. */
  async #makeRoom({ layers }: LoadedLora, slotRank: number): Promise<void> {
    const old = new Map(this.#slots.map((slot) => [slot.module, slot]));
    const needed = layers.filter((layer) => !fits(layer, old.get(layer.module)));
    if (needed.length === 0 && this.#head === this.#recordedHead) return;
    this.#owner.checkIdle("loadAdapter");
    const made: LoraLayer[] = [];
    try {
      for (const layer of needed) made.push(createSlot(layer, old.get(layer.module), slotRank));
      await this.#owner.forgetPlans();
    } catch (error) {
      for (const slot of made) disposeSlot(slot);
      throw error;
    }
    const slots = new Map([...old, ...made.map((slot) => [slot.module, slot] as const)]);
    this.#slots = [...slots.values()];
    this.#recordedHead = this.#head;
    const instead = this.#head && this.#base.tied && new Map([[this.#base.tied.table, this.#head.tensor]]);
    this.#owner.weights.onRecord = (rec) =>
      adaptLinears(rec, this.#slots, { value: (tensor) => rec.weight(tensor), instead });
    this.use(this.#used);
    for (const { module } of made) {
      const replaced = old.get(module);
      if (replaced) disposeSlot(replaced);
    }
  }
}

function fits({ module, a, magnitude }: LoadedLayer, slot: LoraLayer | undefined): boolean {
  return slot !== undefined && a.length / module.columns <= (slot.a.shape[0] ?? 0) && (!magnitude || !!slot.change);
}

/** A slot for a layer, and for whatever the one before it has room for. */
function createSlot({ module, a, magnitude }: LoadedLayer, old: LoraLayer | undefined, slotRank: number): LoraLayer {
  const { name, rows, columns, weight } = module;
  const rank = Math.max(a.length / columns, old?.a.shape[0] ?? 0, slotRank);
  const made: Tensor[] = [];
  const create = (what: string, shape: readonly number[]): Tensor => {
    const tensor = Tensor.create(weight.device, `${name}.${what}`, shape, "f32");
    made.push(tensor);
    return tensor;
  };
  try {
    return {
      module,
      a: create("slot_A", [rank, columns]),
      b: create("slot_B", [rows, rank]),
      // It is in B, since slots are shared by adapters of any.
      scale: 1,
      change:
        magnitude || old?.change
          ? { gain: create("slot_gain", [rows]), shift: create("slot_shift", [rows]) }
          : undefined,
    };
  } catch (error) {
    for (const tensor of made) tensor.dispose();
    throw error;
  }
}

function disposeSlot({ a, b, change }: LoraLayer): void {
  for (const tensor of [a, b, change?.gain, change?.shift]) tensor?.dispose();
}

/** Writes an adapter's matrices into a slot, or what changes nothing. */
function fill({ module, a, b, change }: LoraLayer, adapter: ReadyLora | undefined): void {
  const { rows, columns } = module;
  const [room = 0] = a.shape;
  const [left, right] = [new Float32Array(room * columns), new Float32Array(rows * room)];
  const own = adapter?.lora.layers.find((layer) => layer.module === module);
  const changed = adapter?.changes.get(module);
  if (own) {
    const rank = own.a.length / columns;
    left.set(own.a);
    for (let row = 0; row < rows; row++) {
      const factor = own.scale * (changed?.gain[row] ?? 1);
      for (let i = 0; i < rank; i++) right[row * room + i] = factor * (own.b[row * rank + i] ?? 0);
    }
  }
  a.write(0, new Uint8Array(left.buffer));
  b.write(0, new Uint8Array(right.buffer));
  if (!change) return;
  change.gain.write(0, new Uint8Array((changed?.gain ?? new Float32Array(rows).fill(1)).buffer));
  change.shift.write(0, new Uint8Array((changed?.shift ?? new Float32Array(rows)).buffer));
}

function packedWeights({ name, weight }: LinearModule): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `adapter: only f32 and f16 weights can take one in; got ${name} in ${weight.dtype}. Use it beside the weights.`,
  );
}
