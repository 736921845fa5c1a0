import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { type GatedBlockConfig, gatedBlock } from "../nn/blocks/gated_block.ts";
import { type RotaryConfig, rotaryFromHub, rotaryTable } from "../nn/rotary.ts";
import { embedding } from "../ops/embedding.ts";
import { linear } from "../ops/linear.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { softcap } from "../ops/softcap.ts";
import { type DecoderFacts, type DecoderFamily, decoderFamily, type WeightRule } from "./family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "./hub_config.ts";
import { joinedRules, matrixRule, vectorRule } from "./rules.ts";

/** A decoder of gated blocks: Llama, and the families that differ from it by a bias, a window or a norm. */
export interface GatedConfig extends DecoderFacts, GatedBlockConfig {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly rotary: RotaryConfig & { readonly interleaved?: boolean };
  /** Turns the layers whose `rotaryNames` say `rotary_local`. */
  readonly localRotary?: RotaryConfig;
  /** Of the embedding's rows; default 1. */
  readonly embeddingScale?: number;
  /** `c · tanh(logit / c)`; default: none. */
  readonly logitCap?: number | undefined;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  /** Each query head and each key head is normed before it is turned. */
  readonly headNorms: boolean;
  /** Which projections have biases. */
  readonly biases: { readonly qkv: boolean; readonly out: boolean; readonly feedForward: boolean };
}

const schema = v.object({
  hidden_size: count(65536),
  intermediate_size: count(1 << 20),
  num_hidden_layers: count(MAX_LAYERS),
  num_attention_heads: count(1024),
  num_key_value_heads: v.nullish(count(1024)),
  head_dim: v.nullish(count(256)),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  original_max_position_embeddings: v.nullish(count(1 << 24)),
  partial_rotary_factor: v.optional(v.number()),
  rope_theta: v.optional(v.number()),
  rope_scaling: v.nullish(v.record(v.string(), v.unknown())),
  rope_parameters: v.nullish(v.record(v.string(), v.unknown())),
  tie_word_embeddings: v.optional(v.boolean(), false),
});

/** Reads what the families share: no biases, windows or norms of heads. A family spreads over it what it has besides. */
export function parseGated(family: string, fields: Readonly<Record<string, unknown>>): GatedConfig {
  const hub = parseConfig(family, schema, fields);
  const heads = hub.num_attention_heads;
  const kvHeads = hub.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw new HeedError(
      "BAD_FILE",
      `${family}: H must be a multiple of Hkv; got H = ${heads}, Hkv = ${kvHeads}. Check num_key_value_heads in config.json.`,
    );
  }
  const headDim = hub.head_dim ?? hub.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0 || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `${family}: the head size must be even and at most 256; got ${headDim}. Check head_dim, hidden_size and num_attention_heads.`,
    );
  }
  const rotary = rotaryFromHub(
    family,
    {
      ...hub,
      original_max_position_embeddings: hub.original_max_position_embeddings ?? undefined,
      rope_scaling: hub.rope_scaling ?? null,
      rope_parameters: hub.rope_parameters ?? null,
    },
    headDim,
  );
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    shortContext: rotary.scaling?.type === "longrope" ? rotary.scaling.originalPositions : undefined,
    layers: hub.num_hidden_layers,
    kvHeads,
    headDim,
    width: hub.hidden_size,
    feedForwardWidth: hub.intermediate_size,
    heads,
    normEps: hub.rms_norm_eps,
    activation: activationFromHub(family, hub.hidden_act),
    rotary,
    tied: hub.tie_word_embeddings,
    headNorms: false,
    biases: { qkv: false, out: false, feedForward: false },
    windows: [],
  };
}

/** Where a checkpoint of gated blocks keeps its weights. Projections of one input are joined. */
export function gatedRules(c: GatedConfig) {
  return {
    embedding: matrixRule("embed_tokens.weight", c.vocabSize, c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => gatedBlockRules(c, `layers.${i}`)),
    norm: vectorRule("norm.weight", c.width),
    head: c.tied ? undefined : matrixRule("lm_head.weight", c.vocabSize, c.width),
  };
}

function gatedBlockRules(c: GatedConfig, block: string) {
  const query = c.heads * c.headDim;
  const keyValue = c.kvHeads * c.headDim;
  const qkv = ["q", "k", "v"].map((p) => `${block}.self_attn.${p}_proj`);
  const headNorm = (name: string) =>
    c.headNorms ? vectorRule(`${block}.self_attn.${name}.weight`, c.headDim) : undefined;
  const gateUp = ["gate", "up"].map((p) => `${block}.mlp.${p}_proj`);
  return {
    attentionNorm: vectorRule(`${block}.input_layernorm.weight`, c.width),
    qkv: joinedRules(qkv, [query, keyValue, keyValue], c.width, c.biases.qkv),
    qNorm: headNorm("q_norm"),
    kNorm: headNorm("k_norm"),
    out: joinedRules([`${block}.self_attn.o_proj`], [c.width], query, c.biases.out),
    attentionPostNorm: undefined as WeightRule | undefined,
    feedForwardPostNorm: undefined as WeightRule | undefined,
    feedForwardNorm: vectorRule(`${block}.post_attention_layernorm.weight`, c.width),
    gateUp: joinedRules(gateUp, [c.feedForwardWidth, c.feedForwardWidth], c.width, c.biases.feedForward),
    down: joinedRules([`${block}.mlp.down_proj`], [c.width], c.feedForwardWidth, c.biases.feedForward),
  };
}

/** The weights of a decoder of gated blocks. */
export type GatedRules = ReturnType<typeof gatedRules>;

/** What sets a family of gated blocks apart. */
export interface GatedDefinition<Config extends GatedConfig = GatedConfig> {
  /** The name of the folder. */
  readonly name: string;
  /** The `model_type`s of its configs; default its name. */
  readonly modelTypes?: readonly string[];
  /** Prefixes that checkpoints put before the names in the rules, beside `model.`. */
  readonly prefixes?: readonly string[];
  /** Tensors that are not needed, beside those of every family. */
  readonly ignored?: readonly RegExp[];
  parse(fields: Readonly<Record<string, unknown>>): Config;
  /** Where the weights are, if not where Llama has them: {@link gatedRules} with some replaced. */
  rules?(config: Config): GatedRules;
}

/** A family of gated blocks: embedding, blocks, RMS norm, output matrix. */
export function gatedDecoder<Config extends GatedConfig>(definition: GatedDefinition<Config>): DecoderFamily {
  const { name, modelTypes = [name], prefixes = [], ignored = [], parse, rules = gatedRules } = definition;
  return decoderFamily<Config, GatedRules>({
    name,
    modelTypes,
    prefixes: ["model.", ...prefixes],
    // Frequencies that older checkpoints stored as buffers, and a copy of the tied embedding.
    ignored: [/\.rotary_emb\.inv_freq$/, /^lm_head\.weight$/, ...ignored],
    parse,
    rules,
    constants: (c, positions) => ({
      rotary: angles(c.rotary, positions),
      ...(c.localRotary ? { rotary_local: angles(c.localRotary, positions) } : {}),
    }),
    hidden(rec, c, w, step) {
      let x = rec.name(embedding(rec, step.tokens, w.embedding, { scale: c.embeddingScale }), "embedding"); // [N, C]
      w.blocks.forEach((block, layer) => {
        x = step.block(rec, layer, () => gatedBlock(rec, c, block, { step, layer, x }));
      });
      return rec.name(rmsNorm(rec, x, w.norm, { eps: c.normEps }), "norm");
    },
    logits(rec, c, w, hidden) {
      const logits = rec.scope("head", () => linear(rec, hidden, w.head ?? w.embedding)); // [M, V]
      return rec.name(c.logitCap === undefined ? logits : softcap(rec, logits, c.logitCap), "logits");
    },
  });
}

function angles(rotary: RotaryConfig, positions: number) {
  return { shape: [positions, rotary.rotaryDim / 2, 2], data: rotaryTable(rotary, positions) };
}
