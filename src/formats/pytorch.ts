import { bytesPerElement, type StorageFormat } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";
import { PickleCutShort, PickleGlobal, type PickleRules, unpickle } from "./pickle.ts";
import type { TensorEntry } from "./safetensors.ts";
import { StridedFile } from "./strided_file.ts";
import { openZip } from "./zip.ts";

/** Largest pickle beside the tensors' bytes; what bounds the memory of a hostile one. */
const MAX_PICKLE_BYTES = 64 * 2 ** 20;
const MAX_TENSORS = 2 ** 16;
const MAX_DIMS = 8;
const LEGACY_MAGIC = "0x1950a86a20f9469cfc6c";

const STORAGES: ReadonlyMap<string, StorageFormat> = new Map<string, StorageFormat>([
  ["torch.DoubleStorage", "f64"],
  ["torch.FloatStorage", "f32"],
  ["torch.HalfStorage", "f16"],
  ["torch.BFloat16Storage", "bf16"],
  ["torch.LongStorage", "i64"],
  ["torch.IntStorage", "i32"],
  ["torch.ShortStorage", "i16"],
  ["torch.CharStorage", "i8"],
  ["torch.ByteStorage", "u8"],
  ["torch.BoolStorage", "bool"],
]);
const CALLS = new Set([
  "collections.OrderedDict",
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_parameter",
  "torch.Size",
]);

/** Elements of one type under a key; several tensors may be views of them. */
class Storage {
  readonly key: string;
  readonly format: StorageFormat;
  readonly count: number;

  constructor(key: string, format: StorageFormat, count: number) {
    this.key = key;
    this.format = format;
    this.count = count;
  }
}

/** A tensor as the pickle describes it: a view of a storage, in elements. */
class View {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: number[];
  readonly strides: number[];

  constructor(storage: Storage, offset: number, shape: number[], strides: number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/**
 * The tensors of a PyTorch checkpoint, a zip archive or the older row of pickles, read without executing anything: the pickle goes
 * through an allow-list. A file whose top is `{"state_dict": …}` or `{"model": …}` gives that. No tensor data is read.
 * Throws `BAD_FILE`, and `UNSUPPORTED` for anything that is not allowed.
 */
export async function readPytorch(file: SourceFile, options: ReadOptions = {}): Promise<Map<string, TensorEntry>> {
  const first = await file.read(0, Math.min(4, file.sizeBytes), options);
  const isZip = first[0] === 0x50 && first[1] === 0x4b;
  const { root, place } = isZip ? await readArchive(file, options) : await readLegacy(file, options);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, view] of namedViews(file, root)) {
    if (tensors.size >= MAX_TENSORS) throw pytorchError(file, `it has at most ${MAX_TENSORS} tensors`, "more");
    const { data, start } = place(view.storage);
    tensors.set(name, entryOf(file, { name, view, data, start }));
  }
  if (tensors.size === 0) throw pytorchError(file, "it must hold tensors by name", "none");
  return tensors;
}

/** Where a storage's bytes are. */
type Place = (storage: Storage) => { data: SourceFile; start: number };

async function readArchive(file: SourceFile, options: ReadOptions): Promise<{ root: unknown; place: Place }> {
  const entries = await openZip(file, options);
  const pickleName = [...entries.keys()].find((name) => /(^|\/)data\.pkl$/.test(name));
  const pickle = pickleName === undefined ? undefined : entries.get(pickleName);
  if (pickleName === undefined || !pickle) {
    const names = [...entries.keys()].slice(0, 3).join(", ");
    throw new HeedError(
      "BAD_FILE",
      `pytorch: ${file.name} is a zip archive, but no PyTorch checkpoint: it must hold data.pkl; got ${entries.size} other entries (${names}). Take the checkpoint's own pytorch_model.bin, or its safetensors.`,
    );
  }
  const folder = pickleName.slice(0, -"data.pkl".length);
  const order = entries.get(`${folder}byteorder`);
  if (
    order &&
    order.sizeBytes < 16 &&
    new TextDecoder().decode(await order.read(0, order.sizeBytes, options)) !== "little"
  ) {
    throw new HeedError(
      "UNSUPPORTED",
      `pytorch: tensors must be little-endian; got others in ${file.name}. Save it again on another machine.`,
    );
  }
  if (pickle.sizeBytes > MAX_PICKLE_BYTES)
    throw pytorchError(file, `data.pkl has at most ${MAX_PICKLE_BYTES} bytes`, `${pickle.sizeBytes}`);
  const bytes = await pickle.read(0, pickle.sizeBytes, options);
  const { value } = guardPickle(file, () => unpickle(bytes, 0, rulesFor(file, new Map())));
  const place: Place = (storage) => {
    const data = entries.get(`${folder}data/${storage.key}`);
    if (!data) throw pytorchError(file, `it must hold data/${storage.key}`, "no such entry");
    return { data, start: 0 };
  };
  return { root: value, place };
}

/** Before PyTorch 1.6: pickles of a magic number, a version, the machine, the object and the keys, then each storage behind its length. */
async function readLegacy(file: SourceFile, options: ReadOptions): Promise<{ root: unknown; place: Place }> {
  const storages = new Map<string, Storage>();
  let windowBytes = 2 ** 16;
  for (;;) {
    const bytes = await file.read(0, Math.min(windowBytes, file.sizeBytes), options);
    const whole = bytes.length === file.sizeBytes;
    try {
      const { values, end } = readLegacyPickles(file, bytes, storages);
      return { root: values[3], place: legacyPlaces(file, { storages, keys: values[4], start: end }) };
    } catch (error) {
      if (!(error instanceof PickleCutShort)) throw error;
      if (whole || windowBytes >= MAX_PICKLE_BYTES)
        throw pytorchError(file, "its pickles must end", "none that does, so the file was cut short");
      windowBytes *= 4;
      storages.clear();
    }
  }
}

function readLegacyPickles(
  file: SourceFile,
  bytes: Uint8Array,
  storages: Map<string, Storage>,
): { values: unknown[]; end: number } {
  const values: unknown[] = [];
  let end = 0;
  for (let i = 0; i < 5; i++) {
    const one = unpickle(bytes, end, rulesFor(file, storages));
    values.push(one.value);
    end = one.end;
    if (i === 0 && one.value !== LEGACY_MAGIC) {
      throw new HeedError(
        "UNSUPPORTED",
        `pytorch: a file must be a zip archive or begin with PyTorch's number; got another pickle in ${file.name}. ` +
          "Load it in Python and save its state_dict.",
      );
    }
    const machine = values[2];
    if (i === 2 && machine instanceof Map && machine.get("little_endian") === false) {
      throw new HeedError("UNSUPPORTED", `pytorch: tensors must be little-endian; got others in ${file.name}.`);
    }
  }
  return { values, end };
}

function legacyPlaces(
  file: SourceFile,
  { storages, keys, start }: { storages: ReadonlyMap<string, Storage>; keys: unknown; start: number },
): Place {
  if (!Array.isArray(keys)) throw pytorchError(file, "its last pickle must list the storages", "something else");
  const starts = new Map<string, number>();
  let at = start;
  for (const key of keys.map(String)) {
    const storage = storages.get(key);
    if (!storage) throw pytorchError(file, "its tensors must use every storage", `${JSON.stringify(key)} unused`);
    starts.set(key, at + 8);
    at += 8 + storage.count * bytesPerElement(storage.format);
  }
  return (storage) => {
    const from = starts.get(storage.key);
    if (from === undefined)
      throw pytorchError(file, "every storage must be listed", `${JSON.stringify(storage.key)} unlisted`);
    return { data: file, start: from };
  };
}

/** What a pickle of tensors may name, and what that makes: data alone. */
function rulesFor(file: SourceFile, storages: Map<string, Storage>): PickleRules {
  return {
    what: file.name,
    allows: (name) => STORAGES.has(name) || CALLS.has(name),
    persistent(id) {
      const [kind, type, key, , count] = Array.isArray(id) ? (id as unknown[]) : [];
      const format = type instanceof PickleGlobal ? STORAGES.get(type.name) : undefined;
      if (kind !== "storage" || !format || !isCount(count)) {
        throw pytorchError(file, "a tensor's elements must be a storage of a known type", kindOf(type));
      }
      const storage = storages.get(String(key)) ?? new Storage(String(key), format, count);
      storages.set(String(key), storage);
      return storage;
    },
    call(name, args) {
      if (name === "collections.OrderedDict") return orderedDict(args[0]);
      if (name === "torch.Size") return args[0];
      if (name === "torch._utils._rebuild_parameter") return args[0];
      if (!name.startsWith("torch._utils.")) throw pytorchError(file, "only tensors are rebuilt", name);
      const [storage, offset, shape, strides] = args;
      const fits =
        storage instanceof Storage &&
        isCount(offset) &&
        isCounts(shape) &&
        isCounts(strides) &&
        shape.length === strides.length;
      if (!fits)
        throw pytorchError(file, "a tensor must be a view of a storage", args.map(kindOf).join(", ").slice(0, 200));
      return new View(storage, offset, shape, strides);
    },
  };
}

function guardPickle<T>(file: SourceFile, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof PickleCutShort) throw pytorchError(file, "its pickle must end", "one that does not");
    throw error;
  }
}

/** The tensors by name, from the top or from the dict that trainers put around it. */
function namedViews(file: SourceFile, root: unknown): [string, View][] {
  if (!(root instanceof Map)) throw pytorchError(file, "it must hold tensors by name", kindOf(root));
  const isView = (pair: [unknown, unknown]): pair is [string, View] =>
    typeof pair[0] === "string" && pair[1] instanceof View;
  for (const key of ["state_dict", "model_state_dict", "model"]) {
    const inner: unknown = root.get(key);
    const views = inner instanceof Map ? [...inner].filter(isView) : [];
    if (views.length > 0) return views;
  }
  return [...root].filter(isView);
}

/** The items that an OrderedDict was made of, where they were given at once. */
function orderedDict(items: unknown): Map<unknown, unknown> {
  const pairs = Array.isArray(items) ? (items as unknown[]) : [];
  return new Map(pairs.flatMap((pair) => (Array.isArray(pair) ? [[pair[0], pair[1]] as [unknown, unknown]] : [])));
}

/** What a value is, for messages: never its content, which may be without end. */
function kindOf(value: unknown): string {
  if (value instanceof PickleGlobal) return value.name.slice(0, 100);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return value instanceof Object ? value.constructor.name : String(value).slice(0, 40);
}

function entryOf(
  file: SourceFile,
  { name, view, data, start }: { name: string; view: View; data: SourceFile; start: number },
): TensorEntry {
  const { storage, offset, shape, strides } = view;
  const elementBytes = bytesPerElement(storage.format);
  const count = numel(shape);
  const last =
    count === 0 ? offset : offset + 1 + shape.reduce((sum, d, i) => sum + (d - 1) * (strides[i] as number), 0);
  const inFile = start + storage.count * elementBytes <= data.sizeBytes;
  if (!Number.isSafeInteger(count * elementBytes) || !(last <= storage.count) || !inFile) {
    throw pytorchError(
      file,
      `the elements of ${JSON.stringify(name.slice(0, 100))} must lie in its storage`,
      `${last} of ${storage.count}`,
    );
  }
  const from = start + offset * elementBytes;
  const place = { name, storedAs: storage.format, format: storage.format, shape };
  if (isContiguous(shape, strides)) return { ...place, file: data, start: from, end: from + count * elementBytes };
  const strided = new StridedFile(data, { start: from, shape, strides, elementBytes });
  return { ...place, file: strided, start: 0, end: strided.sizeBytes };
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i] as number;
  }
  return true;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 48;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= MAX_DIMS && value.every(isCount);
}

function pytorchError(file: SourceFile, rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `pytorch: ${rule}; got ${got} in ${file.name}. The file is damaged: download or save it again.`,
  );
}
