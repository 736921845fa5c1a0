import type { Tensor } from "../gpu/tensor.ts";
import type { CrossEntropyAttrs } from "../ops/cross_entropy.ts";
import type { MatmulLayout } from "../ops/matmul.ts";
import type { ArrayTensor, DirectOptions, OpInput } from "../program/direct.ts";
import type { CapturedSequence, CaptureRequest } from "./direct_capture.ts";

/** What every direct call takes. */
export interface CallOptions extends DirectOptions {}

/** An array, or a tensor where `as: "tensor"` asked for one; the caller disposes tensors. */
export type OpResult<O> = O extends { readonly as: "tensor" } ? Tensor : ArrayTensor;

/** Several results by name; see {@link OpResult}. */
export type OpResults<O, K extends string, Optional extends string = never> = {
  readonly [Name in K]: OpResult<O>;
} & { readonly [Name in Optional]?: OpResult<O> };

/** What `attention` gives; `captured` where a capture was asked for. */
export type AttentionResults<O> = OpResults<O, "out", "lse"> &
  (O extends { readonly capture: true | CaptureRequest }
    ? { readonly captured: readonly CapturedSequence[] }
    : unknown);

/** What `attentionBackward` gives. */
export type AttentionGradients<O> = OpResults<O, "dq" | "dk" | "dv", "dbias" | "dsinks" | "drelativeBias">;

/** Options of `rmsNorm`. */
export interface RmsNormCallOptions extends CallOptions {
  /** Added to the mean square. Default 1e-6. */
  readonly eps?: number;
  /** The gain is `1 + weight`. Default false. */
  readonly plusOne?: boolean;
}

/** Options of `layerNorm`. */
export interface LayerNormCallOptions extends CallOptions {
  /** `[C]`. */
  readonly bias?: OpInput;
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
}

/** Options of `groupNorm`. */
export interface GroupNormCallOptions extends LayerNormCallOptions {
  readonly groups: number;
}

/** Options of `rope`. */
export interface RopeCallOptions extends CallOptions {
  /** `[…]`, x's shape less its last two axes: u32 positions. Default: 0, 1, 2 … along the last of them. */
  readonly positions?: OpInput;
  /** `[maxPositions, rotaryDim / 2, 2]`: cosines and sines. Default: those of `theta`. */
  readonly table?: OpInput;
  /** Base of the angles. Default 10,000. */
  readonly theta?: number;
  /** Rows of the default table. Default: the length of the sequence, and more if positions are given. */
  readonly maxPositions?: number;
  /** Channels of a head that turn. Default D. */
  readonly rotaryDim?: number;
  /** Pairs are (2i, 2i + 1) rather than (i, i + rotaryDim/2). Default false. */
  readonly interleaved?: boolean;
}

/** Options of `softmax`. */
export interface SoftmaxCallOptions extends CallOptions {
  /** Default −1. */
  readonly axis?: number;
}

/** Options of `gelu`. */
export interface GeluCallOptions extends CallOptions {
  /** `tanh` is GPT-2's approximation. Default `none`, the exact form. */
  readonly approximate?: "none" | "tanh";
}

/** Options of `linear`. */
export interface LinearCallOptions extends CallOptions {
  /** `[M]`. */
  readonly bias?: OpInput;
}

/** Options of `matmul`. */
export interface MatmulCallOptions extends CallOptions {
  /** Which operand is stored transposed. Default `NN`. */
  readonly layout?: MatmulLayout;
  /** Factor of the product. Default 1. */
  readonly alpha?: number;
}

/** Options of `crossEntropy`. */
export interface CrossEntropyCallOptions extends CallOptions, CrossEntropyAttrs {
  /** `[V]`: multiplies the loss of each class. */
  readonly weights?: OpInput;
}

/** The options of every call as `run`, beside the op's own. */
export function split<O extends CallOptions>(
  options: O | undefined,
): { run: DirectOptions } & Omit<O, keyof CallOptions> {
  const { as, signal, deterministic, onKernels, onPlan, ...own } = options ?? ({} as O);
  return { ...own, run: { as, signal, deterministic, onKernels, onPlan } };
}
