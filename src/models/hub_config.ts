import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import type { ActivationName } from "../ops/activation_parts.ts";

/** A whole number from 1 to `max`. */
export const count = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max));

/** Most layers that a config may state. */
export const MAX_LAYERS = 512;

/** Checks the fields of a config.json. Throws `BAD_FILE` naming each field that is missing or malformed. */
export function parseConfig<S extends v.GenericSchema>(family: string, schema: S, config: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, config);
  if (result.success) return result.output;
  const faults = result.issues.map(
    (i) => `${v.getDotPath(i) ?? "config"}: ${i.message.replace(/^Invalid /, "invalid ")}`,
  );
  throw new HeedError(
    "BAD_FILE",
    `${family}: config.json does not describe this architecture: ${faults.join("; ")}. Check that the file belongs to the model.`,
  );
}

const ACTIVATIONS: Readonly<Record<string, ActivationName>> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  silu: "silu",
  swish: "silu",
  relu: "relu",
  tanh: "tanh",
  sigmoid: "sigmoid",
};

/** The activation that a config names in `hidden_act` or the like. Throws `UNSUPPORTED`. */
export function activationFromHub(family: string, name: string): ActivationName {
  const kind = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (!kind)
    throw new HeedError(
      "UNSUPPORTED",
      `${family}: activation "${name}" is not supported; Heed has ${Object.keys(ACTIVATIONS).join(", ")}.`,
    );
  return kind;
}
