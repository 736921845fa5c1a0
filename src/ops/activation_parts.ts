import type { Shader } from "../gpu/compose.ts";
import { shader } from "./op.ts";
import gelu from "../../shaders/lib/activation_gelu.wgsl";
import geluTanh from "../../shaders/lib/activation_gelu_tanh.wgsl";
import relu from "../../shaders/lib/activation_relu.wgsl";
import sigmoid from "../../shaders/lib/activation_sigmoid.wgsl";
import silu from "../../shaders/lib/activation_silu.wgsl";
import tanh from "../../shaders/lib/activation_tanh.wgsl";

const PARTS = {
  gelu: shader("lib/activation_gelu.wgsl", gelu),
  gelu_tanh: shader("lib/activation_gelu_tanh.wgsl", geluTanh),
  relu: shader("lib/activation_relu.wgsl", relu),
  sigmoid: shader("lib/activation_sigmoid.wgsl", sigmoid),
  silu: shader("lib/activation_silu.wgsl", silu),
  tanh: shader("lib/activation_tanh.wgsl", tanh),
} as const;

/** The elementwise functions; `gelu` is the exact form, `gelu_tanh` GPT-2's. */
export type ActivationName = keyof typeof PARTS;

/** The part that defines `activate` and `activate_grad` on one f32. */
export function activationPart(kind: ActivationName): Shader {
  return PARTS[kind];
}
