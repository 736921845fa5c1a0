import { HeedError, invariant } from "../core/errors.ts";
import { formatTensor, numel, type Shape } from "../core/shape.ts";
import { override } from "../ops/override.ts";
import type { Value } from "../ops/op.ts";
import { placeColumns } from "../ops/slice_columns.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import { checkName } from "./names.ts";

/**
 * What a value becomes: a whole new value, or what is given here, in this order: `replace`, `scale`, `add`. Arrays have
 * the value's shape, or `[rows.length, C]` where `rows` names the tokens that are changed.
 */
export interface Patch {
  readonly replace?: Float32Array;
  readonly scale?: number;
  readonly add?: Float32Array;
  /** Rows of a value `[N, C]`, that is positions of tokens; default all. */
  readonly rows?: readonly number[];
}

/** An attention head. */
export interface HeadId {
  readonly layer: number;
  readonly head: number;
}

/** What a run reads and changes on its way, by the names that `model.values()` lists. */
export interface TapOptions {
  /** Values to read. What is read is what the run goes on with: after a patch of the same name. */
  readonly capture?: readonly string[];
  /** Values to change. */
  readonly patch?: Readonly<Record<string, Float32Array | Patch>>;
  /** Heads to switch off: their columns of `block.L.attention.mixed` are 0 before the output projection. */
  readonly ablate?: readonly HeadId[];
}

/** A value that was read: row-major f32. */
export interface TappedValue {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/** `out = factor · x + shift`, element by element. */
interface Change {
  readonly factor: Float32Array<ArrayBuffer>;
  readonly shift: Float32Array<ArrayBuffer>;
}

/** The names that {@link TapOptions} touch. */
export function tappedNames({ capture = [], patch = {}, ablate = [] }: TapOptions): string[] {
  return [...capture, ...Object.keys(patch), ...ablate.map(({ layer }) => mixedName(layer))];
}

/** Taps of one recorded run. `values` are the model's named values, which the options are checked against. */
export class Taps {
  readonly #captured: ReadonlySet<string>;
  readonly #shapes = new Map<string, Shape>();
  readonly #changes = new Map<string, Change>();

  /** Throws `USAGE` for a name, row or head that is not there, and for data of another size. */
  constructor(options: TapOptions, values: ReadonlyMap<string, Value>, headDim: number) {
    const { capture = [], patch = {}, ablate = [] } = options;
    for (const { layer, head } of ablate) checkHead(layer, head, values.get(mixedName(layer)), headDim);
    for (const name of tappedNames(options)) checkName("run", name, values.keys());
    this.#captured = new Set(capture);
    for (const [name, given] of Object.entries(patch)) {
      const value = values.get(name);
      invariant(value, name);
      this.#changes.set(name, changeOf(value, given instanceof Float32Array ? { replace: given } : given));
    }
    for (const { layer, head } of ablate) {
      const name = mixedName(layer);
      const { shape } = values.get(name) as Value;
      const change = this.#changes.get(name) ?? unchanged(shape);
      this.#changes.set(name, change);
      switchOff(change, shape, head * headDim, headDim);
    }
  }

  /** What a recorder calls for each named value; records the taps of that name. */
  onNamed(rec: ProgramRecorder, value: Value): Value {
    const { name } = value;
    let result = value;
    if (this.#changes.has(name)) {
      const factor = rec.input(`factor of ${name}`, value.shape, "f32");
      const shift = rec.input(`shift of ${name}`, value.shape, "f32");
      result = override(rec, value, { factor, shift });
    }
    if (this.#captured.has(name)) {
      this.#shapes.set(name, value.shape);
      // A view has no memory of its own to read.
      rec.output(`value ${name}`, result.view ? placeColumns(rec, result, 0, value.shape[1] as number) : result);
    }
    return result;
  }

  /** Writes the changes before the run. */
  prepare(plan: Plan): void {
    for (const [name, { factor, shift }] of this.#changes) {
      plan.write(`factor of ${name}`, factor);
      plan.write(`shift of ${name}`, shift);
    }
  }

  /** What was captured, by name. */
  async read(plan: Plan): Promise<Record<string, TappedValue>> {
    const values: Record<string, TappedValue> = {};
    for (const [name, shape] of this.#shapes) {
      const data = new Float32Array(await plan.readOutput(`value ${name}`), 0, numel(shape));
      values[name] = { shape, data };
    }
    return values;
  }
}

function mixedName(layer: number): string {
  return `block.${layer}.attention.mixed`;
}

function checkHead(layer: number, head: number, mixed: Value | undefined, headDim: number): void {
  const heads = mixed ? (mixed.shape[1] ?? 0) / headDim : 0;
  if (mixed && Number.isInteger(head) && head >= 0 && head < heads) return;
  const rule = mixed ? `layer ${layer} has heads 0 to ${heads - 1}` : `the model has no layer ${layer}`;
  throw new HeedError("USAGE", `run: ablate: ${rule}; got layer ${layer}, head ${head}.`);
}

function unchanged(shape: Shape): Change {
  return { factor: new Float32Array(numel(shape)).fill(1), shift: new Float32Array(numel(shape)) };
}

function switchOff({ factor, shift }: Change, [rows = 0, columns = 0]: Shape, first: number, count: number): void {
  for (let row = 0; row < rows; row++) {
    factor.fill(0, row * columns + first, row * columns + first + count);
    shift.fill(0, row * columns + first, row * columns + first + count);
  }
}

/** The change that a patch means. Throws `USAGE`. */
function changeOf(value: Value, patch: Patch): Change {
  const { name, shape } = value;
  const fail = (rule: string, got: string) => new HeedError("USAGE", `run: patch "${name}": ${rule}; got ${got}.`);
  for (const key of Object.keys(patch)) {
    if (!["replace", "scale", "add", "rows"].includes(key)) throw fail("takes replace, scale, add and rows", key);
  }
  const { replace, scale = 1, add, rows } = patch;
  if (value.dtype !== "f32") throw fail("only f32 values are patched", formatTensor(name, value));
  if (!Number.isFinite(scale)) throw fail("scale must be finite", String(scale));
  const [all = 0, columns = 1] = shape;
  if (rows && shape.length !== 2) throw fail("rows are those of a value [N, C]", formatTensor(name, value));
  const bad = rows?.find((row) => !Number.isInteger(row) || row < 0 || row >= all);
  if (bad !== undefined) throw fail(`rows must be whole numbers from 0 to ${all - 1}`, String(bad));
  const size = rows ? rows.length * columns : numel(shape);
  for (const data of [replace, add]) {
    if (data && data.length !== size) throw fail(`data must have ${size} elements`, String(data.length));
  }
  const change = unchanged(shape);
  for (let i = 0; i < size; i++) {
    const at = rows ? (rows[Math.floor(i / columns)] as number) * columns + (i % columns) : i;
    change.factor[at] = replace ? 0 : scale;
    change.shift[at] = (replace ? scale * (replace[i] as number) : 0) + (add?.[i] ?? 0);
  }
  return change;
}
