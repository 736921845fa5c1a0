import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { ReadOptions } from "../core/source.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { readSafetensorsHeader, type TensorEntry } from "../formats/safetensors.ts";
import type { Projection } from "../nn/blocks/gated_block.ts";
import type { Norm } from "../nn/blocks/plain_block.ts";
import { dim } from "../core/shape.ts";
import { activation } from "../ops/activation.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import { everyNthRow } from "../ops/every_nth_row.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { type Pooling, poolRows } from "../ops/pool_rows.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import type { Encoder } from "./encoder_family.ts";
import type { Constants, WeightRule, WeightTree } from "./family.ts";
import { count, parseConfig } from "./hub_config.ts";
import { joinedRules, normRules } from "./rules.ts";

/** How rows become one vector: a pooling, the first row, or BERT's pooler (dense and tanh on the first row). */
export type SentencePooling = Pooling | "cls" | "pooler";

/** One step from hidden rows to a sentence's vector, as sentence-transformers' `modules.json` lists them. */
type Module =
  | { readonly kind: "pooling"; readonly poolings: readonly SentencePooling[] }
  | { readonly kind: "dense"; readonly rules: ProjectionRules; readonly activation: ActivationName | undefined }
  | { readonly kind: "norm"; readonly rules: NormRules; readonly eps: number }
  | { readonly kind: "normalize" };

type ProjectionRules = ReturnType<typeof joinedRules>;
type NormRules = ReturnType<typeof normRules>;

/** How a checkpoint makes vectors of sentences. */
export interface SentenceEmbedding {
  /** Numbers of a vector. */
  readonly width: number;
  /** Tokens that are read of a text, those around it included; the model's context unless the checkpoint says less. */
  readonly maxTokens: number;
  readonly lowerCase: boolean;
  /** Texts that belong before certain kinds of texts, by name, and the one that is used where none is named. */
  readonly prompts: Readonly<Record<string, string>>;
  readonly defaultPrompt: string | undefined;
  readonly rules: WeightTree<WeightRule>;
  /** Tensors of files of its own, by the names that the rules use. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  constants(): Constants;
  /** Hidden rows `[B·T, C]`, of which the first `lengths [B]` of each sequence count → `[B, width]`. */
  record(rec: Recorder, weights: WeightTree<Value>, rows: SentenceRows): Value;
}

/** What {@link SentenceEmbedding.record} reads. */
export interface SentenceRows {
  readonly hidden: Value;
  /** `[B]` u32 */
  readonly lengths: Value;
  constant(name: string): Value;
}

const MAX_MODULES = 32;

/**
 * Reads `modules.json` and the configs that it names. Without it: the pooler where the checkpoint is a plain encoder that
 * holds one, else the mean of the rows. `pooling` overrules both. Throws `BAD_FILE` or `UNSUPPORTED`.
 */
export async function openSentenceEmbedding(
  checkpoint: Checkpoint,
  encoder: Encoder,
  options: ReadOptions & { readonly pooling?: SentencePooling } = {},
): Promise<SentenceEmbedding> {
  const { source } = checkpoint;
  const [listed, own, whole] = await Promise.all([
    readJson(checkpoint, "modules.json", options),
    readJson(checkpoint, "sentence_bert_config.json", options),
    readJson(checkpoint, "config_sentence_transformers.json", options),
  ]);
  const tensors = new Map<string, TensorEntry>();
  let modules: Module[];
  if (options.pooling !== undefined || listed === undefined) {
    modules = [{ kind: "pooling", poolings: [options.pooling ?? usualPooling(checkpoint, encoder)] }];
  } else {
    const opener = { checkpoint, encoder, options, tensors };
    if (!Array.isArray(listed) || listed.length > MAX_MODULES)
      throw badModules("a list of modules", source.description);
    modules = [];
    for (const entry of listed as unknown[]) modules.push(...(await openModule(entry, opener)));
  }
  const settings = isObject(own) ? own : {};
  const prompted = isObject(whole) ? whole : {};
  const most = settings["max_seq_length"];
  const { contextLength } = encoder.facts;
  const name = prompted["default_prompt_name"];
  return {
    ...assemble(modules, encoder),
    tensors,
    maxTokens: typeof most === "number" && most >= 1 ? Math.min(Math.floor(most), contextLength) : contextLength,
    lowerCase: settings["do_lower_case"] === true,
    prompts: readPrompts(prompted["prompts"]),
    defaultPrompt: typeof name === "string" ? name : undefined,
  };
}

/** The mean of a text's rows: what {@link openSentenceEmbedding} finds for an encoder with a head and no files beside it. */
export function meanEmbedding(encoder: Encoder): SentenceEmbedding {
  return {
    ...assemble([{ kind: "pooling", poolings: ["mean"] }], encoder),
    ...{ tensors: new Map(), maxTokens: encoder.facts.contextLength, lowerCase: false },
    ...{ prompts: {}, defaultPrompt: undefined },
  };
}

function readPrompts(prompts: unknown): Record<string, string> {
  const entries = Object.entries(isObject(prompts) ? prompts : {});
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

function usualPooling(checkpoint: Checkpoint, { head, pooler, prefixes }: Encoder): SentencePooling {
  const holds = (name: string) => ["", ...prefixes].some((prefix) => checkpoint.tensors.has(prefix + name));
  return !head && pooler !== undefined && holds(`${pooler}.weight`) ? "pooler" : "mean";
}

interface Opener {
  readonly checkpoint: Checkpoint;
  readonly encoder: Encoder;
  readonly options: ReadOptions;
  readonly tensors: Map<string, TensorEntry>;
}

/** What a module of `modules.json` does; nothing for the encoder itself and for dropout. */
async function openModule(entry: unknown, opener: Opener): Promise<Module[]> {
  const { checkpoint, options } = opener;
  const { type, path } = isObject(entry) ? entry : {};
  if (typeof type !== "string" || typeof path !== "string") {
    throw badModules("modules with a type and a path", checkpoint.source.description);
  }
  const kind = type.split(".").at(-1);
  if (kind === "Transformer" || kind === "Dropout") return [];
  if (kind === "Normalize") return [{ kind: "normalize" }];
  const config = await readJson(checkpoint, `${path}/config.json`, options);
  if (!isObject(config)) throw badModules(`${path}/config.json`, checkpoint.source.description);
  if (kind === "Pooling") return [{ kind: "pooling", poolings: readPoolings(config) }];
  if (kind === "Dense") return [await openDense(path, config, opener)];
  if (kind === "LayerNorm") {
    const { dimension } = parseConfig("sentence embedding", v.object({ dimension: count(65536) }), config);
    await addTensors(path, opener);
    return [{ kind: "norm", rules: normRules(`${path}/norm`, dimension), eps: 1e-5 }];
  }
  throw new HeedError(
    "UNSUPPORTED",
    `sentence embedding: the module ${type} (modules.json) is not supported; Heed has Pooling, Dense, LayerNorm and Normalize.`,
  );
}

const POOLING_FIELDS: readonly (readonly [string, SentencePooling])[] = [
  ["cls_token", "cls"],
  ["max_tokens", "max"],
  ["mean_tokens", "mean"],
  ["mean_sqrt_len_tokens", "mean_sqrt_len"],
  ["weightedmean_tokens", "weighted_mean"],
  ["lasttoken", "last"],
];

/** The poolings whose vectors are put beside each other, in sentence-transformers' order. */
function readPoolings(config: JsonObject): SentencePooling[] {
  const named = config["pooling_mode"];
  const names = typeof named === "string" ? named.split("+") : Array.isArray(named) ? named.map(String) : [];
  const chosen = POOLING_FIELDS.filter(
    ([field, pooling]) =>
      config[`pooling_mode_${field}`] === true ||
      names.includes(pooling) ||
      names.includes(pooling.replace("_", "")) ||
      names.includes(field),
  ).map(([, pooling]) => pooling);
  if (chosen.length > 0) return chosen;
  const got = JSON.stringify(named ?? config).slice(0, 120);
  throw new HeedError(
    "UNSUPPORTED",
    `sentence embedding: the pooling must be ${POOLING_FIELDS.map(([, p]) => p).join(", ")}; got ${got}.`,
  );
}

const denseSchema = v.object({
  in_features: count(65536),
  out_features: count(65536),
  bias: v.optional(v.boolean(), true),
  activation_function: v.optional(v.string(), "torch.nn.modules.activation.Tanh"),
});

const ACTIVATIONS: Readonly<Record<string, ActivationName | undefined>> = {
  ...{ Identity: undefined, Tanh: "tanh", ReLU: "relu", GELU: "gelu", SiLU: "silu", Sigmoid: "sigmoid" },
};

async function openDense(path: string, fields: JsonObject, opener: Opener): Promise<Module> {
  const config = parseConfig("sentence embedding", denseSchema, fields);
  const named = config.activation_function.split(".").at(-1) ?? "";
  if (!Object.hasOwn(ACTIVATIONS, named)) {
    throw new HeedError(
      "UNSUPPORTED",
      `sentence embedding: the activation ${config.activation_function} of ${path} is not supported; Heed has ${Object.keys(ACTIVATIONS).join(", ")}.`,
    );
  }
  await addTensors(path, opener);
  const rules = joinedRules([`${path}/linear`], [config.out_features], config.in_features, config.bias);
  return { kind: "dense", rules, activation: ACTIVATIONS[named] };
}

/** Opens the weights that a module keeps in its own folder. */
async function addTensors(path: string, { checkpoint, options, tensors }: Opener): Promise<void> {
  const file = await checkpoint.source.open(`${path}/model.safetensors`, options);
  if (!file) throw badModules(`${path}/model.safetensors`, checkpoint.source.description);
  for (const [name, entry] of (await readSafetensorsHeader(file, options)).tensors)
    tensors.set(`${path}/${name}`, entry);
}

type Assembled = Pick<SentenceEmbedding, "width" | "rules" | "constants" | "record">;

/** Checks that each module takes what the one before it gives, and says how they are recorded. */
function assemble(modules: readonly Module[], encoder: Encoder): Assembled {
  let { width } = encoder.facts;
  const gains = new Set<number>();
  const pools = modules[0]?.kind === "pooling";
  if (!pools) throw badModules("a Pooling module after the encoder", "another first module");
  const steps = modules.map((module) => {
    if (module.kind === "pooling") width *= module.poolings.length;
    if (module.kind === "dense") {
      const [rows, columns] = module.rules.weight.shape;
      if (columns !== width) throw badModules(`a Dense module of ${width} columns`, `${columns}`);
      width = rows as number;
    }
    if (module.kind === "normalize") gains.add(width);
    return { module, rules: rulesOf(module, encoder) };
  });
  return {
    width,
    rules: steps.map(({ rules }) => rules),
    constants: () => Object.fromEntries([...gains].map((size) => [`unit_${size}`, unitGain(size)])),
    record(rec, weights, rows) {
      const trees = weights as readonly WeightTree<Value>[];
      return rec.scope("sentence", () =>
        rec.name(
          steps.reduce((x, { module }, i) => recordModule(rec, module, trees[i], { ...rows, hidden: x }), rows.hidden),
          "embedding",
        ),
      );
    },
  };
}

/** Gains by which the root-mean-square norm gives rows of length 1. */
function unitGain(size: number) {
  return { shape: [size], data: new Float32Array(size).fill(1 / Math.sqrt(size)) };
}

function rulesOf(module: Module, { pooler, facts }: Encoder): WeightTree<WeightRule> {
  if (module.kind === "dense" || module.kind === "norm") return module.rules;
  if (module.kind !== "pooling" || !module.poolings.includes("pooler")) return undefined;
  if (pooler !== undefined) return joinedRules([pooler], [facts.width], facts.width, true);
  throw new HeedError(
    "USAGE",
    "embed: this family has no pooler. Take another pooling: cls, mean, max or mean_sqrt_len.",
  );
}

function recordModule(rec: Recorder, module: Module, weights: WeightTree<Value>, rows: SentenceRows): Value {
  const x = rows.hidden;
  if (module.kind === "pooling") {
    const vectors = module.poolings.map((pooling) => pool(rec, pooling, weights as unknown as Projection, rows));
    const [first] = vectors;
    return vectors.length === 1 && first ? first : concatColumns(rec, vectors);
  }
  if (module.kind === "dense") {
    const w = weights as unknown as Projection;
    const out = linear(rec, x, w.weight, { bias: w.bias });
    return module.activation ? activation(rec, out, module.activation) : out;
  }
  if (module.kind === "norm") {
    const w = weights as unknown as Norm;
    return layerNorm(rec, x, w.weight, w.bias, { eps: module.eps });
  }
  // eps keeps a row of zeros from dividing by 0, and is too small to be seen in any other.
  return rmsNorm(rec, x, rows.constant(`unit_${dim(x.shape, 1)}`), { eps: 1e-30 });
}

function pool(rec: Recorder, pooling: SentencePooling, pooler: Projection, { hidden, lengths }: SentenceRows): Value {
  if (pooling !== "cls" && pooling !== "pooler") return poolRows(rec, { x: hidden, lengths }, pooling);
  const first = everyNthRow(rec, hidden, dim(hidden.shape, 0) / dim(lengths.shape, 0)); // [B, C]
  if (pooling === "cls") return concatColumns(rec, [first]);
  return activation(rec, linear(rec, first, pooler.weight, { bias: pooler.bias }), "tanh");
}

/** A JSON file of the checkpoint, or undefined. */
async function readJson({ source }: Checkpoint, name: string, options: ReadOptions): Promise<unknown> {
  const text = await source.readText(name, { ...options, maxBytes: 1 << 20 });
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HeedError("BAD_FILE", `sentence embedding: ${name} in ${source.description} must be JSON; got ${cause}.`);
  }
}

function badModules(rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `sentence embedding: modules.json must lead to ${rule}; got ${got}. Check that the checkpoint is complete.`,
  );
}
