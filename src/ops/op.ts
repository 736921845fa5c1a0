import type { DType, TensorDType } from "../core/dtype.ts";
import { invariant } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import type { KernelVariant, Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";

/**
 * Where the memory of a value comes from. `weight`: constant, shared by many Programs. `input`: written by the host
 * before a replay. `intermediate`: lives in the plan's slabs. `state`: outlives replays and is written by ops
 * (KV cache, trained parameters, optimiser moments, token ring).
 */
export type ValueKind = "weight" | "input" | "intermediate" | "state";

/** A tensor of a recorded Program: shape and dtype, no memory yet. */
export interface Value {
  readonly id: number;
  readonly kind: ValueKind;
  readonly shape: Shape;
  /** Packed formats are for weights alone. */
  readonly dtype: TensorDType;
  /** What taps and `describe()` call it, such as `block.3.attention.probs`. */
  name: string;
  /** Set for weights, states and inputs that live in a tensor made elsewhere. */
  readonly tensor?: Tensor;
  /** Set if this value is a range of columns of `base [N, C]`: element (n, c) is at `offset + n · rowStride + c` of it. */
  readonly view?: { readonly base: Value; readonly offset: number; readonly rowStride: number };
}

/** Shape and dtype of an output that an op's shape rule gives. */
export interface ValueInfo {
  readonly shape: Shape;
  readonly dtype: TensorDType;
  /** The output is this column range of an input and needs no memory or dispatch. */
  readonly view?: { readonly base: Value; readonly offset: number; readonly rowStride: number };
}

/** Inputs by role, as the op names them; an optional one may be absent. */
export type Inputs = Readonly<Record<string, Value | undefined>>;

/** One recorded call of an op. */
export interface OpNode<A = unknown> {
  readonly op: OpDef<A>;
  readonly inputs: Inputs;
  readonly outputs: readonly Value[];
  readonly attrs: A;
  /** Position in the record; dropout derives its counter from it. */
  readonly index: number;
  /** `block.3.attention/linear`: the recorder's scope and the op. */
  readonly label: string;
}

/** A number of workgroups per dimension. */
export type Workgroups = readonly [number, number?, number?];

/** Sizes that the host knows only at replay, such as the longest key length. */
export type Dims = Readonly<Record<string, number>>;

/** A value to bind, or one row part of a weight that is larger than a binding. */
export type Bound = Value | { readonly value: Value; readonly part: number };

/** One dispatch: a kernel variant with everything that it is bound to, by the names that its WGSL declares. */
export interface Dispatch {
  readonly kernel: KernelVariant;
  /** By WGSL name. Which of them are written follows from the WGSL (`read_write`). Bind every declared storage binding. */
  readonly bindings: Readonly<Record<string, Bound>>;
  /** By field of the WGSL struct `Params` (bound as `var<uniform> params: Params`). */
  readonly params?: Readonly<Record<string, number>>;
  /** Fixed, or from the sizes given at replay; any count of 0 skips the dispatch. */
  readonly workgroups: Workgroups | ((dims: Dims) => Workgroups);
}

/** What `lower` works with: facts to choose by, scratch values, and the list that it fills. */
export interface LowerContext {
  readonly facts: GpuFacts;
  /** Scratch memory that lives from its first to its last use among this node's dispatches. */
  temp(name: string, shape: Shape, dtype: DType): Value;
  /** Row ranges of a weight or state; one for all but the largest. */
  parts(value: Value): readonly { readonly rowStart: number; readonly rows: number; readonly dtype: TensorDType }[];
  dispatch(dispatch: Dispatch): void;
}

/** Records ops; implemented by `program/record.ts`. Ops and models only ever see this. */
export interface Recorder {
  /** Records one call and returns its outputs. */
  record<A>(op: OpDef<A>, inputs: Inputs, attrs: A): readonly Value[];
  /** A constant in GPU memory. */
  weight(tensor: Tensor, name?: string): Value;
  /** Memory that outlives replays and that ops may write. */
  state(tensor: Tensor, name?: string): Value;
  /** Memory that the host writes before a replay. */
  input(name: string, shape: Shape, dtype: DType): Value;
  /** Runs `body` with `name` appended to the scope that names values and labels. */
  scope<T>(name: string, body: () => T): T;
  /** Records `body`; a gradient taken later computes its intermediates again instead of keeping them. */
  recomputed<T>(body: () => T): T;
  /** Gives a value the name that taps use, within the current scope: `block.3.attention.probs`; go on with what it returns. */
  name(value: Value, name: string): Value;
}

/**
 * An op: a shape rule, a choice of kernel, and a gradient. Ops are pure, but for those that write a state (`writes`).
 * `infer` throws `SHAPE` in the house form before anything is recorded.
 */
export interface OpDef<A = unknown> {
  readonly name: string;
  infer(inputs: Inputs, attrs: A): readonly ValueInfo[];
  lower(node: OpNode<A>, context: LowerContext): void;
  /**
   * Records the gradients of the inputs and returns them by the inputs' names; an input without a gradient is left out.
   * `grads[i]` belongs to `outputs[i]` and may be undefined when nothing depends on that output. `needs` tells which
   * inputs want one, so that frozen parameters cost no work.
   */
  backward?(
    rec: Recorder,
    node: OpNode<A>,
    grads: readonly (Value | undefined)[],
    needs: ReadonlySet<string>,
  ): Record<string, Value>;
  /** Names of inputs that are states which this op writes. */
  readonly writes?: readonly string[];
}

/** Names a shader file; `code` comes from `import code from "../../shaders/<file>"`. */
export function shader(file: string, code: string): Shader {
  return { file, code };
}

/** Columns between rows of a `[N, C]` value or view, and its first element: what kernels that accept views take as params. */
export function rowLayout(value: Value): { readonly base: Value; readonly offset: number; readonly rowStride: number } {
  return value.view ?? { base: value, offset: 0, rowStride: value.shape.at(-1) ?? 1 };
}

/** Spreads `count` workgroups over x and y so that neither exceeds 65,535; kernels take `wg.y * num.x + wg.x`. */
export function spreadWorkgroups(count: number): Workgroups {
  if (count <= 65535) return [count];
  const y = Math.ceil(count / 65535);
  return [Math.ceil(count / y), y];
}

/** The only output of an op that has one. */
export function only(values: readonly Value[]): Value {
  const [value] = values;
  invariant(value && values.length === 1, `an op returned ${values.length} values where one was expected`);
  return value;
}
