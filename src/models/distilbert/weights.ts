import type { BertNames } from "../bert_encoder.ts";
import type { HeadLayouts } from "../encoder_heads.ts";

/** What a DistilBERT checkpoint calls the weights of a block. */
export const names: BertNames = {
  block: (i) => {
    const layer = `transformer.layer.${i}`;
    return {
      q: `${layer}.attention.q_lin`,
      k: `${layer}.attention.k_lin`,
      v: `${layer}.attention.v_lin`,
      out: `${layer}.attention.out_lin`,
      attentionNorm: `${layer}.sa_layer_norm`,
      up: `${layer}.ffn.lin1`,
      down: `${layer}.ffn.lin2`,
      feedForwardNorm: `${layer}.output_layer_norm`,
    };
  },
};

/** The heads of DistilBERT's released code. */
export const heads: HeadLayouts = {
  words: { dense: { name: "vocab_transform" }, norm: "vocab_layer_norm", out: "vocab_projector", dropout: [] },
  classes: {
    first: true,
    dense: { name: "pre_classifier", activation: "relu" },
    out: "classifier",
    dropout: ["out"],
  },
  labels: { out: "classifier", dropout: ["out"] },
  span: { out: "qa_outputs", dropout: ["out"] },
};
