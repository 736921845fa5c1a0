import { HeedError } from "../core/errors.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { addLowRank, type LowRankPath } from "../nn/low_rank.ts";
import { linear } from "../ops/linear.ts";
import type { Value } from "../ops/op.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { Model, WeightRule, WeightTree } from "./family.ts";
import { HEAD_TENSOR } from "./head_names.ts";
import { weightPlaces } from "./weight_places.ts";

/** What a LoRA adapter is (Hu et al. 2021), in the terms of PEFT's adapter_config.json. */
export interface LoraConfig {
  /** r. */
  readonly rank: number;
  /** The path's result is multiplied by alpha / rank; by alpha / √rank if it is `rankStabilized`. */
  readonly alpha: number;
  /** Kalajdzievski 2023, "rsLoRA". Default false. */
  readonly rankStabilized?: boolean;
  /** Share of the path's input that is dropped in training. */
  readonly dropout: number;
  /** Names of linear layers, or ends of them after a dot, such as `q_proj`; one string is a regular expression, or `all-linear`. */
  readonly targets: readonly string[] | string;
}

/** A linear layer of the checkpoint: all rows of a weight, or some where the loader joined several. */
export interface LinearModule {
  /** Its name in `transformers`, such as `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  /** The weight `[M, K]` that it is in. */
  readonly weight: Tensor;
  readonly rowStart: number;
  readonly rows: number;
  readonly columns: number;
  /** Set where the checkpoint's rows are `[heads, parts, D]` and the weight's `[parts, heads, D]`. */
  readonly perHead: WeightRule["perHead"];
}

/** A linear layer with its low-rank path, whose memory belongs to whoever made it. */
export interface LoraLayer {
  readonly module: LinearModule;
  /** `[r, K]` f32. */
  readonly a: Tensor;
  /** `[rows, r]` f32. */
  readonly b: Tensor;
  readonly scale: number;
  /** DoRA's change of the layer's own result, before the path is added: `gain · out + shift`, both `[rows]` f32. */
  readonly change?: { readonly gain: Tensor; readonly shift: Tensor } | undefined;
}

const NOT_LINEAR =
  /(^|\.)(wte|wpe|shared|tok|pos|\w*embed(ding|dings|_tokens|_positions)?s?|\w*_embeddings|relative_attention_bias)$/;

/** Every linear layer of a loaded model, by the names that `transformers` gives them for the architecture in `config`. */
export function linearModules(
  model: Model,
  tree: WeightTree<Tensor>,
  config: Readonly<Record<string, unknown>> = {},
): LinearModule[] {
  return weightPlaces(model, tree, config).flatMap(({ name, tensor: weight, rule, rowStart, rows }) => {
    const { role, shape, perHead } = rule;
    const own = name.replace(/\.weight$/, "");
    if (role !== "matrix" || shape.length !== 2 || own === name || NOT_LINEAR.test(own)) return [];
    return [{ name: own, weight, rowStart, rows, columns: shape[1] ?? 0, perHead }];
  });
}

/** The layers that an adapter's targets name. Throws `USAGE` where one of them names none. */
export function targetedModules(modules: readonly LinearModule[], targets: LoraConfig["targets"]): LinearModule[] {
  const inBody = modules.filter(({ name }) => !HEAD_TENSOR.test(name));
  if (targets === "all-linear") return inBody;
  const known = [...new Set(inBody.map(({ name }) => name.slice(name.lastIndexOf(".") + 1)))].join(", ");
  const fail = (target: string): HeedError =>
    new HeedError(
      "USAGE",
      `lora: each target must name a linear layer of the model; got ${target}. There are ${known}.`,
    );
  if (typeof targets === "string") {
    const pattern = wholeName(targets);
    const found = modules.filter(({ name }) => pattern.test(name));
    if (found.length === 0) throw fail(targets);
    return found;
  }
  const isNamed = (name: string, target: string): boolean => name === target || name.endsWith(`.${target}`);
  const missing = targets.find((target) => !modules.some(({ name }) => isNamed(name, target)));
  if (missing !== undefined || targets.length === 0) throw fail(missing ?? "none");
  return modules.filter(({ name }) => targets.some((target) => isNamed(name, target)));
}

function wholeName(source: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`);
  } catch (cause) {
    throw new HeedError(
      "USAGE",
      `lora: targets that are one string must be a regular expression; got ${source}. Mend it, or give a list of names.`,
      { cause },
    );
  }
}

/** What the result of an adapter's paths is multiplied by. */
export function loraScale({ rank, alpha, rankStabilized }: LoraConfig): number {
  return alpha / (rankStabilized ? Math.sqrt(rank) : rank);
}

/** How a program records the paths of {@link adaptLinears}. */
export interface AdaptOptions {
  /** The value of a path's tensor: a state where it is trained, else a weight. */
  readonly value: (tensor: Tensor) => Value;
  readonly dropout?: LowRankPath["dropout"];
  /** Weights that linear layers read in the place of others. */
  readonly instead?: ReadonlyMap<Tensor, Tensor> | undefined;
}

/** Lets every linear layer that is recorded from now on add the low-rank paths of its weight. */
export function adaptLinears(rec: ProgramRecorder, layers: readonly LoraLayer[], options: AdaptOptions): void {
  const byWeight = new Map<Tensor, LoraLayer[]>();
  for (const layer of layers) {
    const { weight } = layer.module;
    byWeight.set(
      weight,
      [...(byWeight.get(weight) ?? []), layer].sort((a, b) => a.module.rowStart - b.module.rowStart),
    );
  }
  rec.onLinear = (layer) => {
    const { tensor } = layer.weight;
    const other = tensor && options.instead?.get(tensor);
    // The layer that is recorded here comes by again, with its own weight.
    if (other) return linear(rec, layer.x, options.value(other), { bias: layer.bias });
    const own = tensor && byWeight.get(tensor);
    if (!own) return layer.out;
    const paths = own.map(({ module, a, b, scale, change }) => ({
      start: module.rowStart,
      columns: module.rows,
      a: options.value(a),
      b: options.value(b),
      scale,
      change: change && { factor: options.value(change.gain), shift: options.value(change.shift) },
      ...(options.dropout ? { dropout: options.dropout } : {}),
    }));
    return rec.scope("lora", () => addLowRank(rec, layer, paths));
  };
}
