import type { Tensor } from "../gpu/tensor.ts";
import { encodeSafetensors, type TensorToWrite } from "../formats/safetensors_write.ts";
import type { LinearModule, LoraConfig, LoraLayer } from "./lora.ts";
import { publishedRows } from "./placed_runs.ts";

/** What PEFT puts before the names of an adapter's tensors. */
export const LORA_PREFIX = "base_model.model.";
/** An adapter's settings. */
export const LORA_CONFIG_FILE = "adapter_config.json";
/** An adapter's tensors. */
export const LORA_WEIGHTS_FILE = "adapter_model.safetensors";

/** One layer of an adapter, on the host, in the weights' row order. */
export interface LoraMatrices {
  readonly module: LinearModule;
  /** `[r, K]`. */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[rows, r]`. */
  readonly b: Float32Array<ArrayBuffer>;
  /** The lengths `[rows]` that DoRA gives the rows of the sum. */
  readonly magnitude?: Float32Array<ArrayBuffer> | undefined;
}

/** A tensor of a head, by the checkpoint's name: an adapter brings it whole (PEFT's `modules_to_save`). */
export interface SavedTensor {
  readonly name: string;
  readonly tensor: Tensor;
}

/** What {@link encodeLora} says of an adapter. */
export interface EncodeLoraOptions {
  /** The name of the model that it belongs to. */
  readonly base?: string;
  readonly taskType?: string;
  readonly fanInFanOut?: boolean;
  /** Trained beside it: a head, but for the table of tokens that it may share. */
  readonly saved?: readonly SavedTensor[];
}

/** The files of an adapter as PEFT writes and loads them, by name. */
export async function encodeLora(
  layers: readonly LoraLayer[],
  config: LoraConfig,
  options: EncodeLoraOptions = {},
): Promise<Map<string, Uint8Array[]>> {
  const { saved = [] } = options;
  const tensors = new Map<string, TensorToWrite>();
  for (const { name, tensor } of saved) {
    const data = new Float32Array(await tensor.read());
    tensors.set(`${LORA_PREFIX}${name}`, { format: "f32", shape: tensor.shape, data });
  }
  for (const { module, a, b } of layers) {
    const matrix = publishedRows(new Float32Array(await b.read()), module.perHead);
    tensors.set(`${LORA_PREFIX}${module.name}.lora_A.weight`, {
      format: "f32",
      shape: a.shape,
      data: new Float32Array(await a.read()),
    });
    tensors.set(`${LORA_PREFIX}${module.name}.lora_B.weight`, { format: "f32", shape: b.shape, data: matrix });
  }
  const fields = {
    peft_type: "LORA",
    task_type: options.taskType ?? null,
    base_model_name_or_path: options.base ?? null,
    r: config.rank,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    use_rslora: config.rankStabilized ?? false,
    // PEFT would find other layers by that word than those that are here.
    target_modules: config.targets === "all-linear" ? layers.map(({ module }) => module.name) : config.targets,
    modules_to_save: saved.length > 0 ? modulesOf(saved) : null,
    bias: "none",
    fan_in_fan_out: options.fanInFanOut ?? false,
    inference_mode: true,
  };
  return new Map([
    [LORA_CONFIG_FILE, [new TextEncoder().encode(`${JSON.stringify(fields, null, 2)}\n`)]],
    [LORA_WEIGHTS_FILE, encodeSafetensors(tensors, { format: "pt" })],
  ]);
}

/**
 * The layers that are brought whole: `classifier` of `classifier.weight`, and of RoBERTa's `classifier.dense.weight`, as PEFT adds that one
 * itself. A bias alone is that of a layer whose matrix is the table of tokens: PEFT would look for the matrix too, and finds the bias by its name.
 */
function modulesOf(saved: readonly SavedTensor[]): string[] {
  const layers = saved.flatMap(({ name }) => (name.endsWith(".weight") ? [name.slice(0, -".weight".length)] : []));
  return [...new Set(layers.map((name) => name.replace(/^classifier\..+$/, "classifier")))];
}
