import type { BertNames } from "../bert_encoder.ts";
import type { HeadLayouts } from "../encoder_heads.ts";

/** What an ALBERT checkpoint calls its weights; a block is that of a group of layers. */
export const names: BertNames = {
  projection: "encoder.embedding_hidden_mapping_in",
  block: (i) => {
    const layer = `encoder.albert_layer_groups.${i}.albert_layers.0`;
    return {
      q: `${layer}.attention.query`,
      k: `${layer}.attention.key`,
      v: `${layer}.attention.value`,
      out: `${layer}.attention.dense`,
      attentionNorm: `${layer}.attention.LayerNorm`,
      up: `${layer}.ffn`,
      down: `${layer}.ffn_output`,
      feedForwardNorm: `${layer}.full_layer_layer_norm`,
    };
  },
};

/** The heads of ALBERT's released code; that of words reads the narrow embeddings. */
export const heads: HeadLayouts = {
  words: {
    dense: { name: "predictions.dense" },
    norm: "predictions.LayerNorm",
    out: "predictions.decoder",
    bias: "predictions.bias",
    dropout: [],
  },
  classes: { first: true, dense: { name: "pooler", activation: "tanh" }, out: "classifier", dropout: ["out"] },
  labels: { out: "classifier", dropout: ["out"] },
  span: { out: "qa_outputs", dropout: [] },
};
