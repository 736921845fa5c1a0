import { HeedError } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { activation } from "../ops/activation.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import { add } from "../ops/add.ts";
import { crossEntropyOf } from "../ops/cross_entropy.ts";
import { embedding } from "../ops/embedding.ts";
import { gatedActivation } from "../ops/gated_activation.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import { matmul } from "../ops/matmul.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rope } from "../ops/rope.ts";
import { rowMoments } from "../ops/row_moments.ts";
import { softmax } from "../ops/softmax.ts";
import { type DirectOptions, DirectPrograms, type OpInput, type ValuesOf } from "../program/direct.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { type AttentionCallOptions, attentionBackwardCall, attentionCall } from "./direct_attention.ts";
import { checkCall, type KindName, shown } from "./direct_checks.ts";
import {
  type AttentionGradients,
  type AttentionResults,
  type CallOptions,
  type CrossEntropyCallOptions,
  type GeluCallOptions,
  type GroupNormCallOptions,
  type LayerNormCallOptions,
  type LinearCallOptions,
  type MatmulCallOptions,
  type OpResult,
  type OpResults,
  type RmsNormCallOptions,
  type RopeCallOptions,
  type SoftmaxCallOptions,
  split,
} from "./direct_options.ts";
import { ropeOperands } from "./direct_rope.ts";
import { asRows, reshaped, shapeOf } from "./direct_shapes.ts";

const ROPE_KINDS: Readonly<Record<string, KindName>> = {
  ...{ positions: "tensor", table: "tensor", theta: "number", maxPositions: "count", rotaryDim: "count" },
  interleaved: "boolean",
};

const CROSS_ENTROPY_KINDS: Readonly<Record<string, KindName>> = {
  ...{ weights: "tensor", reduction: "text", ignoreIndex: "whole", labelSmoothing: "number", fromLogProbs: "boolean" },
};

/**
 * The ops as direct calls. Each is a Program of one op, planned once for its shapes and options and kept in a small cache; the
 * results are arrays on the host, or tensors with `as: "tensor"`. Calls may run at once. All throw `SHAPE`, `USAGE` or
 * `UNSUPPORTED` before anything runs, and `ABORTED` for their signal.
 *
 * @example
 * const x = { shape: [2, 64], data: new Float32Array(128) };
 * const { shape, data } = await engine.softmax(x);
 */
export class DirectOps {
  readonly device: Device;
  /** Where direct calls are planned and kept; runs any recorded op in the same way. */
  readonly programs: DirectPrograms;

  constructor(device: Device) {
    this.device = device;
    this.programs = new DirectPrograms(device);
  }

  /**
   * `out = softmax(mask(scale · q kᵀ)) v`. q `[B, H, T, D]`, k `[B, Hkv, S, D]`, v `[B, Hkv, S, Dv]`, all f32 or all f16 →
   * out `[B, H, T, Dv]` f32, with `keep: "lse"` lse `[B, H, T]`, and with `capture` the weights of chosen heads and rows or summaries
   * of them, on the host, by sequence. With `queryOffsets` the batch is ragged. See {@link AttentionCallOptions}.
   *
   * @example
   * const { out } = await engine.attention(q, k, v, { causal: true, window: 128 });
   */
  async attention<O extends AttentionCallOptions = AttentionCallOptions>(
    q: OpInput,
    k: OpInput,
    v: OpInput,
    options?: O,
  ): Promise<AttentionResults<O>> {
    const { call, run, finish } = attentionCall({ q, k, v }, options ?? {});
    return (await finish(await this.programs.run(call, run))) as unknown as AttentionResults<O>;
  }

  /**
   * The gradients of `Σ out · dout`: dq, dk and dv, and those of a bias, of sinks and of a relative bias' weight where they are given.
   * dout `[B, H, T, Dv]` f32; the options of {@link DirectOps.attention}.
   */
  async attentionBackward<O extends AttentionCallOptions = AttentionCallOptions>(
    q: OpInput,
    k: OpInput,
    v: OpInput,
    dout: OpInput,
    options?: O,
  ): Promise<AttentionGradients<O>> {
    const { call, run, finish } = attentionBackwardCall({ q, k, v, dout }, options ?? {});
    return (await finish(await this.programs.run(call, run))) as AttentionGradients<O>;
  }

  /** `x / √(mean(x²) + eps) · weight` over the last axis. x `[…, C]` f32, weight `[C]` → as x. */
  async rmsNorm<O extends RmsNormCallOptions = RmsNormCallOptions>(
    x: OpInput,
    weight: OpInput,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("rms_norm", { x, weight }, options, { eps: "number", plusOne: "boolean" });
    const { run, eps = 1e-6, plusOne } = split(options);
    const attrs = { eps, plusOne };
    return (await this.#rows("rms_norm", x, { weight }, attrs, run, (rec, v) =>
      rmsNorm(rec, v.x, v.weight, attrs),
    )) as OpResult<O>;
  }

  /** `(x − mean) / √(var + eps) · weight + bias` over the last axis. x `[…, C]` f32, weight `[C]` → as x. */
  async layerNorm<O extends LayerNormCallOptions = LayerNormCallOptions>(
    x: OpInput,
    weight: OpInput,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("layer_norm", { x, weight }, options, { eps: "number", bias: "tensor" });
    const { run, eps = 1e-5, bias } = split(options);
    return (await this.#rows("layer_norm", x, { weight, bias }, { eps }, run, (rec, v) =>
      layerNorm(rec, v.x, v.weight, v.bias, { eps }),
    )) as OpResult<O>;
  }

  /** Mean and `1 / √(var + eps)` over the last axis, as layer norm uses them. x `[…, C]` f32 → both `[…]`. */
  async rowMoments<O extends CallOptions & { readonly eps?: number } = CallOptions>(
    x: OpInput,
    options?: O,
  ): Promise<OpResults<O, "mean" | "rstd">> {
    checkCall("row_moments", { x }, options, { eps: "number" });
    const { run, eps = 1e-5 } = split(options as (CallOptions & { eps?: number }) | undefined);
    const shape = shapeOf(x).slice(0, -1);
    const results = await this.programs.run(
      {
        op: "row_moments",
        inputs: { x: asRows(x) },
        attrs: { eps },
        record: (rec, v) => ({ ...rowMoments(rec, v.x, { eps }) }),
      },
      run,
    );
    const [mean, rstd] = [results["mean"], results["rstd"]].map((r) => reshaped(r as OpInput, shape));
    return { mean, rstd } as OpResults<O, "mean" | "rstd">;
  }

  /** Layer norm over groups of channels. x `[N, C, …]` f32, weight `[C]` → as x; eps is 1e-5 by default. */
  async groupNorm<O extends GroupNormCallOptions>(x: OpInput, weight: OpInput, options: O): Promise<OpResult<O>> {
    checkCall("group_norm", { x, weight }, options, { eps: "number", bias: "tensor", groups: "count" });
    const { run, eps = 1e-5, bias, groups } = split(options);
    return (await this.#one("group_norm", { x, weight, bias }, { eps, groups }, run, (rec, v) =>
      groupNorm(rec, v.x, v.weight, v.bias, { groups, eps }),
    )) as OpResult<O>;
  }

  /** Rotary embedding: turns pairs of channels by the angle of the row's position. x `[…, T, H, D]` or `[T, D]` f32 → as x. */
  async rope<O extends RopeCallOptions = RopeCallOptions>(x: OpInput, options?: O): Promise<OpResult<O>> {
    checkCall("rope", { x }, options, ROPE_KINDS);
    const { run, ...own } = split(options);
    const { inputs, attrs, shape } = ropeOperands(x, own);
    return (await this.#one(
      "rope",
      inputs,
      attrs,
      run,
      (rec, v) => rope(rec, v.x, v.positions, { ...attrs, table: v.table }),
      shape,
    )) as OpResult<O>;
  }

  /** `softmax(x)` over one axis. x f32 of any shape → as x. */
  async softmax<O extends SoftmaxCallOptions = SoftmaxCallOptions>(x: OpInput, options?: O): Promise<OpResult<O>> {
    return this.#softmax<O>(x, false, options);
  }

  /** `log(softmax(x))` over one axis. x f32 of any shape → as x. */
  async logSoftmax<O extends SoftmaxCallOptions = SoftmaxCallOptions>(x: OpInput, options?: O): Promise<OpResult<O>> {
    return this.#softmax<O>(x, true, options);
  }

  /** `act(x)` elementwise. x f32 of any shape → as x. */
  async activation<O extends CallOptions = CallOptions>(
    x: OpInput,
    kind: ActivationName,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("activation", { x }, options, {});
    checkActivation("activation", kind);
    const { run } = split(options);
    return (await this.#rows("activation", x, {}, { kind }, run, (rec, v) =>
      activation(rec, v.x, kind),
    )) as OpResult<O>;
  }

  /** `x · Φ(x)`, or its approximation by tanh. x f32 of any shape → as x. */
  async gelu<O extends GeluCallOptions = GeluCallOptions>(x: OpInput, options?: O): Promise<OpResult<O>> {
    checkCall("gelu", { x }, options, { approximate: "text" });
    const { approximate = "none", ...rest } = (options ?? {}) as GeluCallOptions;
    if (approximate !== "none" && approximate !== "tanh") {
      const got = String(approximate);
      throw new HeedError("UNSUPPORTED", `gelu: approximate must be "none" or "tanh"; got "${got}".`);
    }
    return this.activation(x, approximate === "tanh" ? "gelu_tanh" : "gelu", rest) as Promise<OpResult<O>>;
  }

  /** `x · sigmoid(x)`. x f32 of any shape → as x. */
  async silu<O extends CallOptions = CallOptions>(x: OpInput, options?: O): Promise<OpResult<O>> {
    return this.activation(x, "silu", options);
  }

  /** `act(gate) · up` of x `[…, 2F]` f32, gate then up → `[…, F]`: SwiGLU with `silu`, GEGLU with `gelu`. */
  async gatedActivation<O extends CallOptions = CallOptions>(
    x: OpInput,
    kind: ActivationName,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("gated_activation", { x }, options, {});
    checkActivation("gated_activation", kind);
    const { run } = split(options);
    return (await this.#rows("gated_activation", x, {}, { kind }, run, (rec, v) =>
      gatedActivation(rec, v.x, kind),
    )) as OpResult<O>;
  }

  /** `x · weightᵀ + bias`. x `[…, K]` f32, weight `[M, K]` f32 or f16 → `[…, M]` f32. */
  async linear<O extends LinearCallOptions = LinearCallOptions>(
    x: OpInput,
    weight: OpInput,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("linear", { x, weight }, options, { bias: "tensor" });
    const { run, bias } = split(options);
    return (await this.#rows("linear", x, { weight, bias }, {}, run, (rec, v) =>
      linear(rec, v.x, v.weight, { bias: v.bias }),
    )) as OpResult<O>;
  }

  /** `alpha · a · b`, batched. a `[…, M, K]` f32, b `[…, K, N]` f32 or f16, transposed as `layout` says → `[…, M, N]`. */
  async matmul<O extends MatmulCallOptions = MatmulCallOptions>(
    a: OpInput,
    b: OpInput,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("matmul", { a, b }, options, { layout: "text", alpha: "number" });
    const { run, layout = "NN", alpha } = split(options);
    if (!["NN", "NT", "TN"].includes(layout)) {
      throw new HeedError("UNSUPPORTED", `matmul: layout must be "NN", "NT" or "TN"; got "${String(layout)}".`);
    }
    const attrs = { layout, alpha };
    return (await this.#one("matmul", { a, b }, attrs, run, (rec, v) => matmul(rec, v.a, v.b, attrs))) as OpResult<O>;
  }

  /** Rows of a table by ids: ids `[…]` u32, table `[V, C]` f32 or f16 → `[…, C]` f32; ids past the table give 0. */
  async embedding<O extends CallOptions = CallOptions>(
    ids: OpInput,
    table: OpInput,
    options?: O,
  ): Promise<OpResult<O>> {
    checkCall("embedding", { ids, table }, options, {});
    const { run } = split(options);
    const shape = shapeOf(ids);
    const inputs = { ids: reshaped(ids, [numel(shape)]), table };
    const out = [...shape, shapeOf(table).at(-1) ?? 0];
    return (await this.#one(
      "embedding",
      inputs,
      {},
      run,
      (rec, v) => embedding(rec, v.ids, v.table),
      out,
    )) as OpResult<O>;
  }

  /** `a + b`, both f32 of one shape → that shape. */
  async add<O extends CallOptions = CallOptions>(a: OpInput, b: OpInput, options?: O): Promise<OpResult<O>> {
    checkCall("add", { a, b }, options, {});
    const { run } = split(options);
    return (await this.#one("add", { a, b }, {}, run, (rec, v) => add(rec, v.a, v.b))) as OpResult<O>;
  }

  /** Cross-entropy of logits `[N, V]` or `[N, V, …]` f32 with targets `[N, …]` i32 → loss `[1]`, and losses of each row. */
  async crossEntropy<O extends CrossEntropyCallOptions = CrossEntropyCallOptions>(
    logits: OpInput,
    targets: OpInput,
    options?: O,
  ): Promise<OpResults<O, "loss" | "losses">> {
    checkCall("cross_entropy", { logits, targets }, options, CROSS_ENTROPY_KINDS);
    const { run, weights, reduction, ignoreIndex, labelSmoothing, fromLogProbs } = split(options);
    const attrs = { reduction, ignoreIndex, labelSmoothing, fromLogProbs };
    const results = await this.programs.run(
      {
        op: "cross_entropy",
        inputs: { logits, targets, weights },
        attrs,
        record: (rec, v) => {
          const { loss, losses } = crossEntropyOf(rec, v, attrs);
          return { loss, losses };
        },
      },
      run,
    );
    return results as OpResults<O, "loss" | "losses">;
  }

  async #softmax<O extends SoftmaxCallOptions>(x: OpInput, logarithm: boolean, options?: O): Promise<OpResult<O>> {
    checkCall("softmax", { x }, options, { axis: "whole" });
    const { run, axis = -1 } = split(options);
    const attrs = { axis, logarithm };
    return (await this.#one("softmax", { x }, attrs, run, (rec, v) => softmax(rec, v.x, attrs))) as OpResult<O>;
  }

  /** An op over the rows of x, whose leading axes come back. */
  async #rows<I extends Record<string, OpInput | undefined>>(
    op: string,
    x: OpInput,
    others: I,
    attrs: unknown,
    run: DirectOptions,
    record: (rec: Recorder, values: RowValues<I>) => Value,
  ): Promise<OpInput> {
    const out = await this.programs.run(
      {
        op,
        inputs: { ...others, x: asRows(x) },
        attrs,
        record: (rec, v) => ({ out: record(rec, v as unknown as RowValues<I>) }),
      },
      run,
    );
    const result = out["out"] as OpInput;
    return reshaped(result, [...shapeOf(x).slice(0, -1), shapeOf(result).at(-1) ?? 1]);
  }

  /** An op with one output, given `shape` if that is not its own. */
  async #one<I extends Record<string, OpInput | undefined>>(
    op: string,
    inputs: I,
    attrs: unknown,
    run: DirectOptions,
    record: (rec: Recorder, values: ValuesOf<I>) => Value,
    shape?: Shape,
  ): Promise<OpInput> {
    const out = await this.programs.run({ op, inputs, attrs, record: (rec, v) => ({ out: record(rec, v) }) }, run);
    const result = out["out"] as OpInput;
    return shape ? reshaped(result, shape) : result;
  }
}

type RowValues<I> = ValuesOf<I> & { readonly x: Value };

function checkActivation(op: string, kind: ActivationName): void {
  const known: readonly ActivationName[] = ["gelu", "gelu_tanh", "silu", "relu", "sigmoid", "tanh"];
  if (known.includes(kind)) return;
  throw new HeedError("UNSUPPORTED", `${op}: the kind must be one of ${known.join(", ")}; got ${shown(kind)}.`);
}
