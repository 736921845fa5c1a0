import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { crossMemory, decoderBlock, encoderBlock, type SublayerConfig } from "../nn/blocks/sublayers.ts";
import { add } from "../ops/add.ts";
import { embedding, positionEmbedding } from "../ops/embedding.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Recorder, Value } from "../ops/op.ts";
import type { Step } from "../nn/step.ts";
import { type EncoderDecoderFacts, type EncoderDecoderFamily, encoderDecoderFamily, type WithLeaf } from "./family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "./hub_config.ts";
import { joinedRules, matrixRule, normRules, vectorRule } from "./rules.ts";

/** How an encoder–decoder tells positions apart: rows of a learned table from `offset` on, or sines and cosines. */
export type Positions =
  | { readonly kind: "learned"; readonly offset: number }
  | { readonly kind: "sinusoidal"; readonly layout: "interleaved" | "halves" };

/** The 2017 model and what differs from it by where norms stand, by positions, or by a bias. */
export interface PlainEncoderDecoderConfig extends EncoderDecoderFacts {
  readonly encoder: EncoderDecoderFacts["encoder"] & { readonly feedForwardWidth: number };
  /** C. */
  readonly width: number;
  /** Of the decoder. */
  readonly feedForwardWidth: number;
  readonly normEps: number;
  readonly activation: SublayerConfig["activation"];
  readonly normFirst: boolean;
  /** Embeddings are multiplied with it. */
  readonly embeddingScale: number;
  readonly positions: Positions;
  /** The projections of attention have biases. */
  readonly attentionBias: boolean;
  /** Each side norms its embeddings. */
  readonly embeddingNorm: boolean;
  /** Each side ends with a norm. */
  readonly finalNorm: boolean;
  /** The checkpoint holds a bias of the logits. */
  readonly logitsBias: boolean;
}

const sideFields = {
  ...{ encoder_layers: count(MAX_LAYERS), decoder_layers: count(MAX_LAYERS) },
  ...{ encoder_attention_heads: count(1024), decoder_attention_heads: count(1024) },
  ...{ encoder_ffn_dim: count(1 << 20), decoder_ffn_dim: count(1 << 20) },
};

const schema = v.object({
  ...sideFields,
  d_model: count(65536),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  activation_function: v.optional(v.string(), "relu"),
  scale_embedding: v.optional(v.boolean(), false),
  decoder_start_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
  tie_word_embeddings: v.optional(v.boolean(), true),
});

/** What a family of this kind states of itself. */
export type PlainVariant = Pick<
  PlainEncoderDecoderConfig,
  "normFirst" | "positions" | "attentionBias" | "embeddingNorm" | "finalNorm" | "logitsBias"
>;

/** Reads the fields that the families share. Throws `BAD_FILE` or `UNSUPPORTED`. */
export function parsePlain(
  family: string,
  fields: Readonly<Record<string, unknown>>,
  variant: PlainVariant,
): PlainEncoderDecoderConfig {
  const hub = parseConfig(family, schema, fields);
  if (!hub.tie_word_embeddings) {
    throw new HeedError(
      "UNSUPPORTED",
      `${family}: the output matrix must be the decoder's embedding; got tie_word_embeddings false in config.json.`,
    );
  }
  const start = hub.decoder_start_token_id;
  if (start === null || start === undefined || start >= hub.vocab_size) {
    throw new HeedError(
      "BAD_FILE",
      `${family}: decoder_start_token_id must be a token below ${hub.vocab_size}; got ${start}. Check config.json.`,
    );
  }
  const headDim = headSize(family, hub.d_model, hub.decoder_attention_heads);
  headSize(family, hub.d_model, hub.encoder_attention_heads);
  return {
    ...variant,
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers: hub.decoder_layers,
    heads: hub.decoder_attention_heads,
    kvHeads: hub.decoder_attention_heads,
    headDim,
    width: hub.d_model,
    feedForwardWidth: hub.decoder_ffn_dim,
    encoder: {
      contextLength: hub.max_position_embeddings,
      layers: hub.encoder_layers,
      heads: hub.encoder_attention_heads,
      feedForwardWidth: hub.encoder_ffn_dim,
    },
    decoderStart: start,
    normEps: 1e-5,
    activation: activationFromHub(family, hub.activation_function),
    embeddingScale: hub.scale_embedding ? Math.sqrt(hub.d_model) : 1,
  };
}

function headSize(family: string, width: number, heads: number): number {
  const size = width / heads;
  if (Number.isInteger(size) && size <= 256) return size;
  throw new HeedError(
    "BAD_FILE",
    `${family}: d_model must be a multiple of the heads, the head size at most 256; got ${width} / ${heads}. Check config.json.`,
  );
}

/** Where a checkpoint of this kind keeps its weights. */
export function plainRules(c: PlainEncoderDecoderConfig) {
  const side = (name: "encoder" | "decoder") => ({
    positions:
      c.positions.kind === "learned"
        ? matrixRule(`${name}.embed_positions.weight`, c.contextLength + c.positions.offset, c.width)
        : undefined,
    embeddingNorm: c.embeddingNorm ? normRules(`${name}.layernorm_embedding`, c.width) : undefined,
    norm: c.finalNorm ? normRules(`${name}.layer_norm`, c.width) : undefined,
  });
  const sourceSize = c.sourceVocabSize;
  const embeddingOf = (name: string, rows: number) => matrixRule(name, rows, c.width);
  return {
    tokens: embeddingOf(sourceSize === undefined ? "shared.weight" : "decoder.embed_tokens.weight", c.vocabSize),
    sourceTokens: sourceSize === undefined ? undefined : embeddingOf("encoder.embed_tokens.weight", sourceSize),
    encoder: {
      ...side("encoder"),
      blocks: Array.from({ length: c.encoder.layers }, (_, i) => blockRules(c, "encoder", i)),
    },
    decoder: {
      ...side("decoder"),
      blocks: Array.from({ length: c.layers }, (_, i) => ({
        ...blockRules(c, "decoder", i),
        cross: crossRules(c, `decoder.layers.${i}`),
      })),
    },
    logitsBias: c.logitsBias
      ? { ...vectorRule("final_logits_bias", c.vocabSize), stored: [1, c.vocabSize] }
      : undefined,
  };
}

/** Projections of one input, each of `rows` rows. */
function projectionRules(names: readonly string[], rows: number, cols: number, biased: boolean) {
  return joinedRules(
    names,
    names.map(() => rows),
    cols,
    biased,
  );
}

function blockRules(c: PlainEncoderDecoderConfig, side: "encoder" | "decoder", i: number) {
  const [block, { width }] = [`${side}.layers.${i}`, c];
  const inner = side === "encoder" ? c.encoder.feedForwardWidth : c.feedForwardWidth;
  const qkv = ["q", "k", "v"].map((p) => `${block}.self_attn.${p}_proj`);
  return {
    qkv: projectionRules(qkv, width, width, c.attentionBias),
    out: projectionRules([`${block}.self_attn.out_proj`], width, width, c.attentionBias),
    attentionNorm: normRules(`${block}.self_attn_layer_norm`, width),
    up: projectionRules([`${block}.fc1`], inner, width, true),
    down: projectionRules([`${block}.fc2`], width, inner, true),
    feedForwardNorm: normRules(`${block}.final_layer_norm`, width),
  };
}

function crossRules({ width, attentionBias }: PlainEncoderDecoderConfig, block: string) {
  const name = (p: string) => `${block}.encoder_attn.${p}_proj`;
  return {
    q: projectionRules([name("q")], width, width, attentionBias),
    keyValue: projectionRules([name("k"), name("v")], width, width, attentionBias),
    out: projectionRules([name("out")], width, width, attentionBias),
    norm: normRules(`${block}.encoder_attn_layer_norm`, width),
  };
}

type PlainRules = ReturnType<typeof plainRules>;
type PlainWeights = WithLeaf<PlainRules, Value>;

/** What sets a family of this kind apart. */
export interface PlainEncoderDecoderDefinition {
  /** The name of the folder. */
  readonly name: string;
  /** Default: the name. */
  readonly modelTypes?: readonly string[];
  parse(fields: Readonly<Record<string, unknown>>): PlainEncoderDecoderConfig;
}

/** A family of encoder–decoders with sublayers as in arXiv 1706.03762 §3. */
export function plainEncoderDecoder(definition: PlainEncoderDecoderDefinition): EncoderDecoderFamily {
  const { name, parse, modelTypes = [name] } = definition;
  return encoderDecoderFamily<PlainEncoderDecoderConfig, PlainRules>({
    name,
    modelTypes,
    prefixes: ["model."],
    // Copies of the tied embedding, and the positions that older checkpoints stored although they are computed.
    ignored: [
      /^(model\.)?(encoder|decoder)\.embed_tokens\.weight$/,
      /^(model\.)?shared\.weight$/,
      /^lm_head\.weight$/,
      /^(model\.)?(encoder|decoder)\.embed_positions\.weight$/,
    ],
    parse,
    rules: plainRules,
    constants: (c, positions): Record<string, { shape: number[]; data: Float32Array }> =>
      c.positions.kind === "sinusoidal"
        ? { positions: { shape: [positions, c.width], data: sinusoids(positions, c.width, c.positions.layout) } }
        : {},
    encode: (rec, c, w, step) => {
      const table = w.sourceTokens ?? w.tokens;
      let x = embed(rec, c, { ...w.encoder, table, step });
      w.encoder.blocks.forEach((block, layer) => {
        x = step.block(rec, layer, () => encoderBlock(rec, encoderSide(c), block, { step, layer, x }));
      });
      return lastNorm(rec, c, w.encoder.norm, x);
    },
    memory: (rec, _, w, encoded) =>
      w.decoder.blocks.map((block, layer) => rec.scope(`block.${layer}`, () => crossMemory(rec, block, encoded))),
    hidden(rec, c, w, step) {
      let x = embed(rec, c, { ...w.decoder, table: w.tokens, step });
      w.decoder.blocks.forEach((block, layer) => {
        x = step.block(rec, layer, () => decoderBlock(rec, c, block, { step, layer, x }));
      });
      return lastNorm(rec, c, w.decoder.norm, x);
    },
    logits: (rec, _, w, hidden) =>
      rec.name(
        rec.scope("head", () => linear(rec, hidden, w.tokens, { bias: w.logitsBias })),
        "logits",
      ), // [M, V]
  });
}

function encoderSide(c: PlainEncoderDecoderConfig): SublayerConfig {
  const { heads } = c.encoder;
  return { ...c, heads, headDim: c.width / heads };
}

interface EmbedParts extends Pick<PlainWeights["encoder"], "positions" | "embeddingNorm"> {
  readonly table: Value;
  readonly step: Step;
}

/** Rows of tokens to rows of their embeddings and positions, `[N] → [N, C]` (§3.4, §3.5). */
function embed(rec: Recorder, c: PlainEncoderDecoderConfig, parts: EmbedParts): Value {
  const { step, table, embeddingNorm } = parts;
  const scaled = embedding(rec, step.tokens, table, { scale: c.embeddingScale });
  const tokens = rec.name(scaled, "token_embedding"); // [N, C]
  const shift = c.positions.kind === "learned" ? c.positions.offset : 0;
  const rows = parts.positions ?? step.constant("positions"); // [P, C]
  const positions = rec.name(positionEmbedding(rec, step.rowTable, rows, { shift }), "position_embedding"); // [N, C]
  const sum = rec.name(add(rec, tokens, positions), "embedding");
  if (!embeddingNorm) return step.dropout(rec, sum);
  const normed = layerNorm(rec, sum, embeddingNorm.weight, embeddingNorm.bias, { eps: c.normEps });
  return step.dropout(rec, rec.name(normed, "embedding.norm"));
}

function lastNorm(
  rec: Recorder,
  { normEps: eps }: PlainEncoderDecoderConfig,
  norm: PlainWeights["encoder"]["norm"],
  x: Value,
): Value {
  return norm ? rec.name(layerNorm(rec, x, norm.weight, norm.bias, { eps }), "norm") : x;
}

/** Sines and cosines of `pos / 10000^(2i/C)` (§3.5): pair i in columns 2i and 2i + 1, or in columns i and C/2 + i. */
function sinusoids(positions: number, width: number, layout: "interleaved" | "halves"): Float32Array {
  const table = new Float32Array(positions * width);
  const half = Math.ceil(width / 2);
  for (let p = 0; p < positions; p++) {
    for (let column = 0; column < width; column++) {
      const angle = p / 10000 ** ((2 * Math.floor(column / 2)) / width);
      const at = layout === "interleaved" ? column : column % 2 === 0 ? column / 2 : half + (column - 1) / 2;
      table[p * width + at] = column % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
    }
  }
  return table;
}
