import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { describeFaults } from "../core/faults.ts";
import type { ActivationName } from "../ops/activation_parts.ts";

/** A whole number from 1 to `max`. */
export const count = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max));

/** Most layers that a config may state. */
export const MAX_LAYERS = 512;

/** Checks the fields of a config.json. Throws `BAD_FILE` naming each field that is missing or malformed. */
export function parseConfig<S extends v.GenericSchema>(family: string, schema: S, config: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, config);
  if (result.success) return result.output;
  const faults = describeFaults(result.issues, "config");
  throw new HeedError(
    "BAD_FILE",
    `${family}: config.json does not describe this architecture: ${faults}. Check that the file belongs to the model.`,
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

/** The fields of a config that say which layers see a window. */
export interface HubWindows {
  /** `sliding_window`: positions that a row sees, its own among them. */
  readonly window: number | null | undefined;
  /** `layer_types`; without it the layers from `first` on see the window. */
  readonly layerTypes?: readonly string[] | null | undefined;
  /** Default 0. */
  readonly first?: number;
}

/** The window of each of `layers` layers; undefined sees all. Throws `BAD_FILE`, or `UNSUPPORTED` for another type of layer. */
export function windowsFromHub(family: string, layers: number, hub: HubWindows): readonly (number | undefined)[] {
  const { window, first = 0 } = hub;
  const types =
    hub.layerTypes ??
    Array.from({ length: layers }, (_, i) => (window && i >= first ? "sliding_attention" : "full_attention"));
  if (types.length !== layers)
    throw new HeedError(
      "BAD_FILE",
      `${family}: layer_types must have ${layers} entries, one a layer; got ${types.length}. Check config.json.`,
    );
  return types.map((type) => {
    if (type === "full_attention") return undefined;
    if (type !== "sliding_attention")
      throw new HeedError(
        "UNSUPPORTED",
        `${family}: layer type "${type}" in config.json is not supported; Heed has full_attention and sliding_attention.`,
      );
    if (window) return window;
    throw new HeedError(
      "BAD_FILE",
      `${family}: layer_types has sliding_attention, but there is no sliding_window. Check config.json.`,
    );
  });
}
