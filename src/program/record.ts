import { HeedError, invariant } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import type { DType } from "../core/dtype.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Inputs, OpDef, OpNode, Recorder, Value, ValueInfo } from "../ops/op.ts";

/** A stretch of the record whose intermediates backward computes again instead of keeping. */
export interface RecomputedRegion {
  readonly start: number;
  readonly end: number;
}

/** A linear layer that was recorded: `out = x · weightᵀ + bias`. */
export interface LinearLayer {
  readonly x: Value;
  readonly weight: Value;
  readonly bias?: Value | undefined;
  readonly out: Value;
}

/**
 * What calling ops builds: a list of op calls on values that have shapes and dtypes, but no memory. Names are
 * unique: a second value of the same name gets `#2`.
 */
export class ProgramRecorder implements Recorder {
  readonly label: string;
  readonly nodes: OpNode[] = [];
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly regions: RecomputedRegion[] = [];
  /** The values that {@link name} named, as they were before a tap replaced them. */
  readonly named = new Map<string, Value>();
  /** Sees the result of each linear layer, and what it returns goes on in its place: how adapters add to layers that models record. */
  onLinear: ((layer: LinearLayer) => Value) | undefined;
  /** Changes the inputs of each linear layer before it is recorded: how mixed precision rounds them. */
  beforeLinear: ((inputs: Inputs) => Inputs) | undefined;
  readonly #onNamed: ((value: Value) => Value) | undefined;
  readonly #scopes: string[] = [];
  readonly #names = new Map<string, number>();
  readonly #byTensor = new Map<Tensor, Value>();
  #nextId = 0;

  /** `onNamed` is a tap: it sees each value that is given a name, and what it returns goes on in its place. */
  constructor(label: string, onNamed?: (value: Value) => Value) {
    this.label = label;
    this.#onNamed = onNamed;
  }

  record<A>(op: OpDef<A>, inputs: Inputs, attrs: A): readonly Value[] {
    const own = op.name === "linear" && this.beforeLinear ? this.beforeLinear(inputs) : inputs;
    const outputs = this.recordAs(op, own, attrs, this.nodes.length);
    const { x, weight, bias } = inputs;
    const [out] = outputs;
    if (op.name !== "linear" || !this.onLinear || !x || !weight || !out) return outputs;
    return [this.onLinear({ x, weight, bias, out })];
  }

  /** Records with the index of another node, so that a recomputed dropout draws the mask of the first. */
  recordAs<A>(op: OpDef<A>, inputs: Inputs, attrs: A, index: number): readonly Value[] {
    const outputs = op.infer(inputs, attrs).map((info, i, all) => this.#intermediate(op.name, info, i, all.length));
    const label = this.#path(op.name);
    this.nodes.push({ op: op as OpDef, inputs, outputs, attrs, index, label });
    return outputs;
  }

  weight(tensor: Tensor, name: string = tensor.label): Value {
    return this.#bound("weight", tensor, name);
  }

  state(tensor: Tensor, name: string = tensor.label): Value {
    return this.#bound("state", tensor, name);
  }

  input(name: string, shape: Shape, dtype: DType): Value {
    invariant(!this.inputs.has(name), `program ${this.label}: two inputs are called "${name}"`);
    const value: Value = { id: this.#nextId++, kind: "input", shape, dtype, name };
    this.inputs.set(name, value);
    return value;
  }

  /** Keeps a value's memory after the replay, to be read by name. */
  output(name: string, value: Value): Value {
    invariant(!this.outputs.has(name), `program ${this.label}: two outputs are called "${name}"`);
    this.outputs.set(name, value);
    return value;
  }

  scope<T>(name: string, body: () => T): T {
    this.#scopes.push(name);
    try {
      return body();
    } finally {
      this.#scopes.pop();
    }
  }

  /**
   * Gives a value the name that taps use, within the current scope: `block.3.attention.probs`. Returns the value to go
   * on with, which is another one if a tap replaces it.
   */
  name(value: Value, name: string): Value {
    this.#giveBack(value.name);
    value.name = this.#unique(this.#scoped(name));
    this.named.set(value.name, value);
    return this.#onNamed?.(value) ?? value;
  }

  /** Records `body`; a gradient taken later computes its intermediates again instead of keeping them. */
  recomputed<T>(body: () => T): T {
    const start = this.nodes.length;
    const result = body();
    this.regions.push({ start, end: this.nodes.length });
    return result;
  }

  /** The value of that name. Throws `USAGE` naming some that there are. */
  find(name: string): Value {
    const values = this.nodes.flatMap((n) => n.outputs);
    const found = values.find((v) => v.name === name);
    if (found) return found;
    const last = name.split(".").at(-1) ?? name;
    const near = values.map((v) => v.name).filter((n) => n.includes(last));
    throw new HeedError(
      "USAGE",
      `program ${this.label}: no value is called "${name}"; there are ${(near.length > 0 ? near : values.map((v) => v.name)).slice(0, 8).join(", ")}, …`,
    );
  }

  #bound(kind: "weight" | "state", tensor: Tensor, name: string): Value {
    let value = this.#byTensor.get(tensor);
    if (!value) {
      value = { id: this.#nextId++, kind, shape: tensor.shape, dtype: tensor.dtype, name, tensor };
      this.#byTensor.set(tensor, value);
    }
    invariant(value.kind === kind, `program ${this.label}: tensor ${name} is both a weight and a state`);
    return value;
  }

  #intermediate(op: string, info: ValueInfo, i: number, count: number): Value {
    const name = this.#unique(this.#scoped(count === 1 ? op : `${op}.${i}`));
    return { id: this.#nextId++, kind: "intermediate", shape: info.shape, dtype: info.dtype, name, view: info.view };
  }

  #scoped(name: string): string {
    return [...this.#scopes, name].join(".");
  }

  #path(op: string): string {
    return [this.#scopes.join("."), op].filter((s) => s !== "").join("/");
  }

  /** Frees the name that an op gave itself, if it was the last of its kind, for the name that people choose. */
  #giveBack(name: string): void {
    const base = name.replace(/#\d+$/, "");
    const n = this.#names.get(base) ?? 0;
    if (name === (n === 1 ? base : `${base}#${n}`)) this.#names.set(base, n - 1);
  }

  #unique(name: string): string {
    const n = (this.#names.get(name) ?? 0) + 1;
    this.#names.set(name, n);
    return n === 1 ? name : `${name}#${n}`;
  }
}

/** The value whose memory a view looks into; the value itself if it is no view. */
export function rootOf(value: Value): Value {
  return value.view ? rootOf(value.view.base) : value;
}
