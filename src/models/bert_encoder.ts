import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { encoderBlock, type SublayerConfig } from "../nn/blocks/sublayers.ts";
import { add } from "../ops/add.ts";
import { embedding, positionEmbedding } from "../ops/embedding.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { type EncoderFacts, type EncoderFamily, type EncoderInputs, encoderFamily } from "./encoder_family.ts";
import type { HeadLayouts } from "./encoder_heads.ts";
import type { WithLeaf } from "./family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "./hub_config.ts";
import { gainRules, joinedRules, matrixRule } from "./rules.ts";

/** BERT (arXiv 1810.04805 §3) and what its variants change. */
export interface BertConfig extends EncoderFacts, SublayerConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly feedForwardWidth: number;
  /** Rows of the table of positions before that of the first token. */
  readonly positionShift: number;
  /** Which of the checkpoint's blocks each layer runs. */
  readonly blockOf: readonly number[];
}

/** What a family's checkpoints call the weights of the encoder. */
export interface BertNames {
  /** The layer that brings embeddings to the width of the blocks, in ALBERT. */
  readonly projection?: string;
  block(i: number): {
    readonly q: string;
    readonly k: string;
    readonly v: string;
    readonly out: string;
    readonly attentionNorm: string;
    readonly up: string;
    readonly down: string;
    readonly feedForwardNorm: string;
  };
}

const schema = v.object({
  hidden_size: count(65536),
  intermediate_size: count(1 << 20),
  num_hidden_layers: count(MAX_LAYERS),
  num_attention_heads: count(1024),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  type_vocab_size: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1024)), 2),
  layer_norm_eps: v.optional(v.number(), 1e-12),
  hidden_act: v.optional(v.string(), "gelu"),
  position_embedding_type: v.nullish(v.string()),
  is_decoder: v.nullish(v.boolean()),
  add_cross_attention: v.nullish(v.boolean()),
});

/** Reads what the families share. A family spreads over it what it has besides. Throws `BAD_FILE` or `UNSUPPORTED`. */
export function parseBert(family: string, fields: Readonly<Record<string, unknown>>): BertConfig {
  const hub = parseConfig(family, schema, fields);
  const refuse = (rule: string, got: string) =>
    new HeedError("UNSUPPORTED", `${family}: ${rule}; got ${got} in config.json. Take another checkpoint.`);
  if ((hub.position_embedding_type ?? "absolute") !== "absolute") {
    throw refuse(
      "positions must be absolute",
      `position_embedding_type ${JSON.stringify(hub.position_embedding_type)}`,
    );
  }
  if (hub.is_decoder || hub.add_cross_attention) throw refuse("the model must be an encoder", "is_decoder true");
  const { hidden_size: width, num_attention_heads: heads, num_hidden_layers: layers } = hub;
  const headDim = width / heads;
  if (!Number.isInteger(headDim) || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `${family}: hidden_size must be a multiple of num_attention_heads, the head size at most 256; got ${width} / ${heads}. Check config.json.`,
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers,
    heads,
    headDim,
    width,
    tokenWidth: width,
    feedForwardWidth: hub.intermediate_size,
    segments: hub.type_vocab_size,
    positionShift: 0,
    normEps: hub.layer_norm_eps,
    normFirst: false,
    activation: activationFromHub(family, hub.hidden_act),
    blockOf: Array.from({ length: layers }, (_, i) => i),
  };
}

function bertRules(c: BertConfig, names: BertNames) {
  const { width, tokenWidth, feedForwardWidth: inner } = c;
  const linearRules = (name: string, rows: number, cols: number) => joinedRules([name], [rows], cols, true);
  const blocks = Math.max(...c.blockOf) + 1;
  return {
    tokens: matrixRule("embeddings.word_embeddings.weight", c.vocabSize, tokenWidth),
    positions: matrixRule("embeddings.position_embeddings.weight", c.contextLength + c.positionShift, tokenWidth),
    segments:
      c.segments > 0 ? matrixRule("embeddings.token_type_embeddings.weight", c.segments, tokenWidth) : undefined,
    norm: gainRules("embeddings.LayerNorm", tokenWidth),
    projection: names.projection === undefined ? undefined : linearRules(names.projection, width, tokenWidth),
    blocks: Array.from({ length: blocks }, (_, i) => {
      const name = names.block(i);
      return {
        qkv: joinedRules([name.q, name.k, name.v], [width, width, width], width, true),
        out: linearRules(name.out, width, width),
        attentionNorm: gainRules(name.attentionNorm, width),
        up: linearRules(name.up, inner, width),
        down: linearRules(name.down, width, inner),
        feedForwardNorm: gainRules(name.feedForwardNorm, width),
      };
    }),
  };
}

type BertRules = ReturnType<typeof bertRules>;

/** What sets a family of BERT's kind apart. */
export interface BertDefinition {
  /** The name of the folder. */
  readonly name: string;
  /** Default: the name. */
  readonly modelTypes?: readonly string[];
  /** Prefixes of the encoder's names in checkpoints that have a head. */
  readonly prefixes: readonly string[];
  parse(fields: Readonly<Record<string, unknown>>): BertConfig;
  readonly names: BertNames;
  readonly heads: HeadLayouts;
  readonly pooler?: string;
}

/** A family of encoders of BERT's kind: embeddings, norm, blocks with the norm after each sublayer (arXiv 1810.04805 §3). */
export function bertEncoder(definition: BertDefinition): EncoderFamily {
  const { name, modelTypes = [name], prefixes, parse, names, heads, pooler } = definition;
  return encoderFamily<BertConfig, BertRules>({
    ...{ name, modelTypes, prefixes, parse, heads, pooler },
    // Whole numbers that older checkpoints stored beside the weights, and heads of pre-training that no task uses.
    ignored: [/(^|\.)embeddings\.(position_ids|token_type_ids)$/, /^cls\.seq_relationship\./, /^sop_classifier\./],
    rules: (c) => bertRules(c, names),
    tokens: (w) => w.tokens,
    hidden(rec, c, w, { step, segments }) {
      let x = embed(rec, c, w, { step, segments });
      c.blockOf.forEach((block, layer) => {
        const weights = w.blocks[block];
        if (!weights) throw new HeedError("INTERNAL", `${name}: layer ${layer} has no block ${block}`);
        x = step.block(rec, layer, () => encoderBlock(rec, c, weights, { step, layer, x }));
      });
      return x;
    },
  });
}

/** `dropout(norm(token + position + segment))`, brought to C: `[N] → [N, C]`. */
function embed(rec: Recorder, c: BertConfig, w: WithLeaf<BertRules, Value>, { step, segments }: EncoderInputs): Value {
  const tokens = rec.name(embedding(rec, step.tokens, w.tokens), "token_embedding"); // [N, E]
  const shift = { shift: c.positionShift };
  const positions = rec.name(positionEmbedding(rec, step.rowTable, w.positions, shift), "position_embedding"); // [N, E]
  let sum = add(rec, tokens, positions);
  if (w.segments) {
    if (!segments) throw new HeedError("INTERNAL", "encoder: the model knows segments and was given none");
    sum = add(rec, sum, rec.name(embedding(rec, segments, w.segments), "segment_embedding"));
  }
  const normed = layerNorm(rec, rec.name(sum, "embedding"), w.norm.weight, w.norm.bias, { eps: c.normEps });
  const x = step.dropout(rec, rec.name(normed, "embedding.norm")); // [N, E]
  if (!w.projection) return x;
  return rec.name(linear(rec, x, w.projection.weight, { bias: w.projection.bias }), "embedding.projected"); // [N, C]
}
