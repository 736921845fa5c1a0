import type { HeadLayouts } from "../encoder_heads.ts";

/** The heads of RoBERTa's released code; that of classes is a layer of its own instead of the pooler. */
export const heads: HeadLayouts = {
  words: {
    dense: { name: "lm_head.dense", activation: "gelu" },
    norm: "lm_head.layer_norm",
    out: "lm_head.decoder",
    bias: "lm_head.bias",
    dropout: [],
  },
  classes: {
    first: true,
    dense: { name: "classifier.dense", activation: "tanh" },
    out: "classifier.out_proj",
    dropout: ["dense", "out"],
  },
  labels: { out: "classifier", dropout: ["out"] },
  span: { out: "qa_outputs", dropout: [] },
};
