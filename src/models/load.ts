import { bytesPerElement, type DType, isPacked } from "../core/dtype.ts";
import { HeedError, throwIfAborted } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { formatShape, numel, sameShape, type Shape } from "../core/shape.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { TensorEntry } from "../formats/safetensors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { transposeInto } from "../ops/transpose.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import { mapRules, type Model, type WeightRule, type WeightTree } from "./family.ts";
import { HEAD_TENSOR } from "./head_names.ts";
import { placedRuns } from "./placed_runs.ts";
import { type LoadDType, loadedDTypes, streamWeight, type WeightDType } from "./weight_stream.ts";

/** Progress of a load, in bytes of the checkpoint. */
export interface LoadProgress {
  readonly tensor: string;
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export interface LoadWeightsOptions {
  /**
   * `auto` keeps f16 matrices in f16, those of a GGUF file as they are, and everything else in f32; `q8_0` and `q4_0` quantise the
   * matrices while they are read.
   */
  readonly dtype?: LoadDType;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** A model's weights on the GPU; whoever loaded them disposes them. */
export interface LoadedWeights {
  readonly tree: WeightTree<Tensor>;
  /** The dtype of the matrices. */
  readonly dtype: DType;
  /** GPU memory that they take. */
  readonly bytes: number;
  /** Called with each program before a forward pass over the weights is recorded into it: adapters add their paths there. */
  onRecord?: (rec: ProgramRecorder) => void;
  dispose(): void;
}

/** Bytes that may be waiting in the queue's own staging memory before the loader waits for the GPU. */
const MAX_QUEUED_BYTES = 32 << 20;

interface PlannedWeight {
  readonly rule: WeightRule;
  readonly entries: readonly TensorEntry[];
  /** Of each entry: files may store what is joined here in several formats. */
  readonly dtypes: readonly WeightDType[];
}

/**
 * Streams a checkpoint's tensors into GPU buffers, a few megabytes at a time. All names and shapes are checked before
 * the first byte is read. On any error, or an abort, everything allocated is freed.
 */
export async function loadWeights(
  device: Device,
  model: Model,
  checkpoint: Checkpoint,
  options: LoadWeightsOptions = {},
): Promise<LoadedWeights> {
  refusePacking(model, checkpoint.config);
  const planned = new Map<WeightRule, PlannedWeight>();
  const resolve = nameResolver(model, checkpoint);
  mapRules(model.rules, (rule) => planned.set(rule, planWeight(model.family, rule, resolve, options.dtype ?? "auto")));
  refuseUnused(model, checkpoint, planned.values());
  const made: Tensor[] = [];
  try {
    const loader = new Loader(device, [...planned.values()], options, made);
    const tensors = new Map<WeightRule, Tensor>();
    for (const [rule, weight] of planned) tensors.set(rule, await loader.load(weight));
    const tree = mapRules(model.rules, (rule) => tensors.get(rule) as Tensor);
    await device.idle();
    const half = [...planned.values()].some((w) => w.dtypes.some((dtype) => dtype === "f16" || isPacked(dtype)));
    const bytes = made.reduce((sum, t) => sum + t.sizeBytes, 0);
    return { tree, dtype: half ? "f16" : "f32", bytes, dispose: () => disposeAll(made) };
  } catch (error) {
    disposeAll(made);
    throw error;
  }
}

function disposeAll(tensors: readonly Tensor[]): void {
  for (const t of tensors) t.dispose();
}

/** Finds a rule's tensor under its own name or one of the others, as it is or behind one of the family's prefixes. */
function nameResolver(model: Model, checkpoint: Checkpoint): (name: string, or?: readonly string[]) => TensorEntry {
  return (name, or = []) => {
    for (const candidate of [name, ...or]) {
      for (const prefix of ["", ...model.prefixes]) {
        const entry = checkpoint.tensors.get(prefix + candidate);
        if (entry) return entry;
      }
    }
    const near = [...checkpoint.tensors.keys()].slice(0, 4).join(", ");
    const [architecture = "the head"] = [checkpoint.config["architectures"]].flat();
    const mend = HEAD_TENSOR.test(name)
      ? `That is a part of the head that config.json promises (${String(architecture)}): the weights were saved without it. Take a checkpoint that has its head.`
      : "Check that config.json and the weights belong together.";
    throw new HeedError(
      "BAD_FILE",
      `${model.family}: the checkpoint must hold the tensor ${name}; it has ${checkpoint.tensors.size} tensors (${near}, …). ${mend}`,
    );
  };
}

/** Weights that another program packed have tensors of its own beside them. */
function refusePacking({ family }: Model, { quantization_config: packing }: Checkpoint["config"]): void {
  if (!isObject(packing)) return;
  const { quant_method: method = "a method without a name" } = packing;
  throw new HeedError(
    "UNSUPPORTED",
    `${family}: the weights are quantised by ${String(method)} (quantization_config in config.json), which Heed does not read. Take the unquantised checkpoint, which --dtype q8_0 or q4_0 quantises at load, or a GGUF file.`,
  );
}

function planWeight(
  family: string,
  rule: WeightRule,
  resolve: (name: string, or?: readonly string[]) => TensorEntry,
  wanted: LoadDType,
): PlannedWeight {
  const entries = rule.from.map((name, i) => resolve(name, i === 0 ? rule.or : undefined));
  entries.forEach((entry, i) => {
    const expected = sourceShape(rule, i, entry.linear);
    if (sameShape(withoutLeadingOnes(entry.shape), withoutLeadingOnes(expected))) return;
    throw new HeedError(
      "BAD_FILE",
      `${family}: tensor ${entry.name} must be ${formatShape(expected)}; got ${formatShape(entry.shape)}. Check that config.json and the weights belong together.`,
    );
  });
  return { rule, entries, dtypes: loadedDTypes(family, rule, entries, wanted) };
}

/** The shape that the i-th source of a rule must have in the file. */
function sourceShape(rule: WeightRule, i: number, linear = false): Shape {
  if (rule.stored) return rule.stored;
  const [rows = 1, ...rest] = rule.shape;
  const own = [rule.rows?.[i] ?? rows, ...rest];
  return rule.turned && !linear ? own.reverse() : own;
}

/** Some files hold a bias as `[1, V]`. */
function withoutLeadingOnes(shape: Shape): Shape {
  const first = shape.findIndex((n) => n !== 1);
  return first <= 0 ? shape : shape.slice(first);
}

/** A tensor that nobody reads means that the forward pass would not be the checkpoint's. */
function refuseUnused(model: Model, checkpoint: Checkpoint, planned: Iterable<PlannedWeight>): void {
  const used = new Set([...planned].flatMap((w) => w.entries.map((e) => e.name)));
  const surplus = [...checkpoint.tensors.keys()].filter(
    (name) => !used.has(name) && !model.ignored.some((r) => r.test(name)),
  );
  if (surplus.length === 0) return;
  const some = surplus.slice(0, 5).join(", ");
  throw new HeedError(
    "UNSUPPORTED",
    `${model.family}: the checkpoint holds ${surplus.length} tensors that this architecture does not use (${some}${surplus.length > 5 ? ", …" : ""}). It may be a variant that Heed does not run, or an adapter.`,
  );
}

class Loader {
  readonly #device: Device;
  readonly #options: LoadWeightsOptions;
  readonly #made: Tensor[];
  readonly #totalBytes: number;
  #loadedBytes = 0;
  #queuedBytes = 0;

  constructor(device: Device, weights: readonly PlannedWeight[], options: LoadWeightsOptions, made: Tensor[]) {
    this.#device = device;
    this.#options = options;
    this.#made = made;
    this.#totalBytes = weights.flatMap((w) => w.entries).reduce((n, e) => n + e.end - e.start, 0);
  }

  async load({ rule, entries, dtypes }: PlannedWeight): Promise<Tensor> {
    const [label = "weight"] = rule.from;
    const [dtype = "f32"] = dtypes;
    const rows = rule.rows ?? [rule.shape[0] ?? 1];
    const joined = dtypes.some((other) => other !== dtype)
      ? dtypes.map((each, i) => ({ rows: rows[i] ?? 0, dtype: each }))
      : undefined;
    const tensor = Tensor.create(this.#device, label, rule.shape, dtype, { joined });
    this.#made.push(tensor);
    const [first] = entries;
    if (rule.turned && !first?.linear && !isPacked(dtype)) {
      await this.#loadTurned(entries, tensor);
      return tensor;
    }
    let offset = 0;
    for (const [i, entry] of entries.entries()) {
      const each = dtypes[i] ?? dtype;
      await this.#stream(entry, tensor, offset, { rule, dtype: each });
      offset += numel(entry.shape) * bytesPerElement(each);
    }
    return tensor;
  }

  async #loadTurned(entries: readonly TensorEntry[], tensor: Tensor): Promise<void> {
    const [entry] = entries;
    if (!entry || entries.length !== 1)
      throw new HeedError("INTERNAL", `${tensor.label}: turned weights are not joined`);
    const raw = Tensor.create(this.#device, `${entry.name} [in, out]`, entry.shape, tensor.dtype);
    try {
      await this.#stream(entry, raw, 0, { dtype: tensor.dtype as WeightDType });
      const rec = new ProgramRecorder("turn weight");
      transposeInto(rec, rec.weight(raw), rec.state(tensor));
      const turn = await plan(this.#device, rec);
      turn.replay();
      turn.dispose();
      await this.#device.idle();
    } finally {
      raw.dispose();
    }
  }

  async #stream(
    entry: TensorEntry,
    tensor: Tensor,
    offsetBytes: number,
    { rule, dtype }: { readonly rule?: WeightRule; readonly dtype: WeightDType },
  ): Promise<void> {
    const { signal, onProgress } = this.#options;
    const sizeBytes = numel(entry.shape) * bytesPerElement(dtype);
    const before = this.#loadedBytes;
    for await (const { at, data } of streamWeight(entry, dtype, { signal, turned: rule?.turned })) {
      throwIfAborted(signal, "load");
      if (rule?.offset) addTo(data, rule.offset);
      for (const run of placedRuns(rule?.perHead, sizeBytes, at, data)) tensor.write(offsetBytes + run.at, run.data);
      this.#queuedBytes += data.byteLength;
      if (this.#queuedBytes > MAX_QUEUED_BYTES) {
        await this.#device.idle();
        this.#queuedBytes = 0;
      }
      const share = sizeBytes === 0 ? 1 : (at + data.byteLength) / sizeBytes;
      this.#loadedBytes = before + Math.round((entry.end - entry.start) * share);
      onProgress?.({ tensor: entry.name, loadedBytes: this.#loadedBytes, totalBytes: this.#totalBytes });
    }
  }
}

/** Adds a number to f32 elements, in place. */
function addTo(data: Uint8Array<ArrayBuffer>, offset: number): void {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.byteLength; at += 4) view.setFloat32(at, view.getFloat32(at, true) + offset, true);
}
