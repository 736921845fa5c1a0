import { activationDerivative, activationValue, type ActivationName } from "./activation.ts";

/**
 * `out[i] = act(gate[i]) · up[i]`: SwiGLU with `silu`, GEGLU with `gelu` or `gelu_tanh`; any shape.
 * Source: Shazeer, "GLU Variants Improve Transformer" (2020), eq. 5.
 */
export function gatedActivation(name: ActivationName, gate: Float64Array, up: Float64Array): Float64Array {
  return gate.map((g, i) => activationValue(name, g) * up[i]!);
}

/** Gradients of {@link gatedActivation}: `dgate = dout · up · act'(gate)`, `dup = dout · act(gate)`. */
export function gatedActivationBackward(
  name: ActivationName,
  gate: Float64Array,
  up: Float64Array,
  dout: Float64Array,
): { dgate: Float64Array; dup: Float64Array } {
  return {
    dgate: gate.map((g, i) => dout[i]! * up[i]! * activationDerivative(name, g)),
    dup: gate.map((g, i) => dout[i]! * activationValue(name, g)),
  };
}
