import type { HeadLayouts } from "../encoder_heads.ts";

/** The heads of §3.1 (masked words, the next sentence) and §4 (classes of the pooled first token, answers), with the released code's names. */
export const heads: HeadLayouts = {
  words: {
    dense: { name: "cls.predictions.transform.dense" },
    norm: "cls.predictions.transform.LayerNorm",
    out: "cls.predictions.decoder",
    bias: "cls.predictions.bias",
    dropout: [],
  },
  classes: {
    first: true,
    dense: { name: "pooler.dense", activation: "tanh" },
    out: "classifier",
    dropout: ["out"],
  },
  next: { first: true, dense: { name: "pooler.dense", activation: "tanh" }, out: "cls.seq_relationship", dropout: [] },
  labels: { out: "classifier", dropout: ["out"] },
  span: { out: "qa_outputs", dropout: [] },
};
