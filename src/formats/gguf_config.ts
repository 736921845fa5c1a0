import { HeedError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import type { GgufValue } from "./gguf_reader.ts";

/** What a config is made of. */
export interface GgufFacts {
  readonly arch: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Rows of the embedding. */
  readonly vocabSize: number;
  /** The file has an output matrix of its own. */
  readonly hasOutput: boolean;
  /** Divisors of the rotary frequencies, where the file has them (Llama 3.1 and later). */
  readonly ropeFactors?: Float32Array;
}

/** The config.json that the Hub's checkpoint of the same model has. Throws `BAD_FILE` for what is missing, `UNSUPPORTED`. */
export function ggufConfig(facts: GgufFacts): JsonObject {
  return facts.arch === "gpt2" ? gpt2Config(facts) : gatedConfig(facts);
}

/** The number under `arch.key`. Throws `BAD_FILE`. */
export function archNumber({ arch, metadata }: Pick<GgufFacts, "arch" | "metadata">, key: string): number | undefined {
  const value = metadata.get(`${arch}.${key}`);
  // Some files give a list with one number a layer; where they are the same, it is one number.
  const one = Array.isArray(value) && value.length > 0 && value.every((v) => v === value[0]) ? value[0] : value;
  if (one === undefined) return undefined;
  if (typeof one === "number") return one;
  throw new HeedError(
    "UNSUPPORTED",
    `gguf: ${arch}.${key} must be one number for all layers; got ${typeof one}. This variant is not run.`,
  );
}

function needed(facts: GgufFacts, key: string): number {
  const value = archNumber(facts, key);
  if (value !== undefined) return value;
  throw new HeedError(
    "BAD_FILE",
    `gguf: the metadata must have ${facts.arch}.${key}; it has none. Convert the model again.`,
  );
}

function gpt2Config(facts: GgufFacts): JsonObject {
  return {
    model_type: "gpt2",
    n_embd: needed(facts, "embedding_length"),
    n_layer: needed(facts, "block_count"),
    n_head: needed(facts, "attention.head_count"),
    n_inner: needed(facts, "feed_forward_length"),
    n_positions: needed(facts, "context_length"),
    vocab_size: facts.vocabSize,
    layer_norm_epsilon: archNumber(facts, "attention.layer_norm_epsilon") ?? 1e-5,
    tie_word_embeddings: !facts.hasOutput,
  };
}

function gatedConfig(facts: GgufFacts): JsonObject {
  const { arch } = facts;
  const heads = needed(facts, "attention.head_count");
  const width = needed(facts, "embedding_length");
  const headDim = archNumber(facts, "attention.key_length") ?? width / heads;
  const layers = needed(facts, "block_count");
  const window = archNumber(facts, "attention.sliding_window");
  return {
    model_type: arch === "gemma3" ? "gemma3_text" : arch,
    hidden_size: width,
    intermediate_size: needed(facts, "feed_forward_length"),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: archNumber(facts, "attention.head_count_kv") ?? heads,
    head_dim: headDim,
    vocab_size: facts.vocabSize,
    max_position_embeddings: needed(facts, "context_length"),
    rms_norm_eps: needed(facts, "attention.layer_norm_rms_epsilon"),
    rope_theta: archNumber(facts, "rope.freq_base") ?? 10000,
    rope_scaling: ropeScaling(facts),
    tie_word_embeddings: !facts.hasOutput,
    ...(arch === "phi3" && {
      partial_rotary_factor: (archNumber(facts, "rope.dimension_count") ?? headDim) / headDim,
      sliding_window: window ?? null,
    }),
    ...(arch.startsWith("gemma") && gemmaFields(facts, { width, heads, headDim, layers, window })),
  };
}

interface GemmaSizes {
  readonly width: number;
  readonly heads: number;
  readonly headDim: number;
  readonly layers: number;
  readonly window: number | undefined;
}

function gemmaFields(facts: GgufFacts, { width, heads, headDim, layers, window }: GemmaSizes): JsonObject {
  const is27b = layers === (facts.arch === "gemma3" ? 62 : 46);
  const every = facts.arch === "gemma3" ? 6 : 2;
  return {
    hidden_activation: "gelu_pytorch_tanh",
    // The 27B models scale queries by their own width; llama.cpp knows them by their layers too.
    query_pre_attn_scalar: is27b ? width / heads : headDim,
    attn_logit_softcapping: archNumber(facts, "attn_logit_softcapping") ?? null,
    final_logit_softcapping: archNumber(facts, "final_logit_softcapping") ?? null,
    sliding_window: window ?? 4096,
    layer_types: Array.from({ length: layers }, (_, i) =>
      (i + 1) % every === 0 ? "full_attention" : "sliding_attention",
    ),
    ...(facts.arch === "gemma3" && { rope_local_base_freq: archNumber(facts, "rope.freq_base_swa") ?? 10000 }),
  };
}

function ropeScaling(facts: GgufFacts): JsonObject | null {
  const { ropeFactors, metadata, arch } = facts;
  if (ropeFactors) {
    const factor = Math.max(...ropeFactors);
    // Every Llama from 3.1 on was trained with these bounds; the file keeps only what they give.
    return {
      rope_type: "llama3",
      factor,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
  }
  const type = metadata.get(`${arch}.rope.scaling.type`);
  const factor = archNumber(facts, "rope.scaling.factor");
  if (type === undefined || type === "none" || factor === undefined) return null;
  const original = archNumber(facts, "rope.scaling.original_context_length");
  return { rope_type: type, factor, ...(original !== undefined && { original_max_position_embeddings: original }) };
}
