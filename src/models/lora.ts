import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { Tensor } from "../gpu/tensor.ts";
import { addLowRank, type LowRankPath } from "../nn/low_rank.ts";
import type { Value } from "../ops/op.ts";
import type { ProgramRecorder } from "../program/record.ts";
import { mapLeaves, mapRules, type Model, type WeightRule, type WeightTree } from "./family.ts";
import { HEAD_TENSOR, publishedNames } from "./head_names.ts";

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
}

const NOT_LINEAR =
  /(^|\.)(wte|wpe|shared|tok|pos|\w*embed(ding|dings|_tokens|_positions)?s?|\w*_embeddings|relative_attention_bias)$/;

/** Every linear layer of a loaded model, by the names that `transformers` gives them for the architecture in `config`. */
export function linearModules(
  model: Model,
  tree: WeightTree<Tensor>,
  config: Readonly<Record<string, unknown>> = {},
): LinearModule[] {
  const nameOf = publishedNames(model, config);
  const [rules, tensors]: [WeightRule[], Tensor[]] = [[], []];
  mapRules(model.rules, (rule) => rules.push(rule));
  mapLeaves(
    tree,
    (node): node is Tensor => node instanceof Tensor,
    (tensor) => tensors.push(tensor),
  );
  const seen = new Set<Tensor>();
  return rules.flatMap((rule, i) => {
    const weight = tensors[i];
    if (!weight || seen.has(weight) || rule.role !== "matrix" || rule.shape.length !== 2) return [];
    seen.add(weight);
    return modulesOf(rule, weight, nameOf);
  });
}

function modulesOf(rule: WeightRule, weight: Tensor, nameOf: (name: string) => string): LinearModule[] {
  const [total = 0, columns = 0] = rule.shape;
  let rowStart = 0;
  return rule.from.flatMap((from, i) => {
    const rows = rule.rows?.[i] ?? total;
    const start = rowStart;
    rowStart += rows;
    const own = from.replace(/\.weight$/, "");
    if (NOT_LINEAR.test(own) || !from.endsWith("weight")) return [];
    return [{ name: nameOf(own), weight, rowStart: start, rows, columns, perHead: rule.perHead }];
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
    const pattern = new RegExp(`^(?:${targets})$`);
    const found = modules.filter(({ name }) => pattern.test(name));
    if (found.length === 0) throw fail(targets);
    return found;
  }
  const isNamed = (name: string, target: string): boolean => name === target || name.endsWith(`.${target}`);
  const missing = targets.find((target) => !modules.some(({ name }) => isNamed(name, target)));
  if (missing !== undefined || targets.length === 0) throw fail(missing ?? "none");
  return modules.filter(({ name }) => targets.some((target) => isNamed(name, target)));
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
    const own = layer.weight.tensor && byWeight.get(layer.weight.tensor);
    if (!own) return layer.out;
    const paths = own.map(({ module, a, b, scale }) => ({
      start: module.rowStart,
      columns: module.rows,
      a: options.value(a),
      b: options.value(b),
      scale,
      ...(options.dropout ? { dropout: options.dropout } : {}),
    }));
    return rec.scope("lora", () => addLowRank(rec, layer, paths));
  };
}

/** adapter_config.json, checked. Throws `BAD_FILE` for what is malformed, `UNSUPPORTED` for what would be computed otherwise. */
export function parseLoraConfig(config: JsonObject): LoraConfig {
  const { r, lora_alpha: alpha, lora_dropout: dropout = 0, target_modules: targets } = config;
  if (config["peft_type"] !== "LORA") throw unsupported("peft_type must be LORA", config["peft_type"]);
  for (const [name, fits] of Object.entries(REFUSED)) {
    if (!fits(config[name])) throw unsupported(`${name} must be left at its default`, config[name]);
  }
  const listed = Array.isArray(targets) && targets.every((target) => typeof target === "string");
  if (!Number.isSafeInteger(r) || Number(r) < 1 || typeof alpha !== "number" || typeof dropout !== "number") {
    throw new HeedError(
      "BAD_FILE",
      `lora: adapter_config.json must have r, lora_alpha and lora_dropout; got ${JSON.stringify([r, alpha, dropout])}.`,
    );
  }
  if (!listed && typeof targets !== "string") {
    throw new HeedError(
      "BAD_FILE",
      `lora: target_modules must be a list of names or a pattern; got ${JSON.stringify(targets)}.`,
    );
  }
  return {
    rank: Number(r),
    alpha,
    dropout,
    targets: targets as string[] | string,
    rankStabilized: config["use_rslora"] === true,
  };
}

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  (Array.isArray(value) && value.length === 0) ||
  (isObject(value) && Object.keys(value).length === 0);

/** Settings that change what is computed, and are not known here. */
const REFUSED: Readonly<Record<string, (value: unknown) => boolean>> = {
  bias: (value) => value === undefined || value === "none",
  use_dora: isEmpty,
  rank_pattern: isEmpty,
  alpha_pattern: isEmpty,
  layers_to_transform: isEmpty,
  trainable_token_indices: isEmpty,
  target_parameters: isEmpty,
  lora_bias: isEmpty,
};

function unsupported(rule: string, got: unknown): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `lora: ${rule}; got ${JSON.stringify(got)}. Merge the adapter with PEFT and load the result.`,
  );
}
