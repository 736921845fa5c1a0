import type { BertNames } from "./bert_encoder.ts";

/** What checkpoints of BERT and RoBERTa call the weights of a block. */
export const bertNames: BertNames = {
  block: (i) => {
    const layer = `encoder.layer.${i}`;
    return {
      q: `${layer}.attention.self.query`,
      k: `${layer}.attention.self.key`,
      v: `${layer}.attention.self.value`,
      out: `${layer}.attention.output.dense`,
      attentionNorm: `${layer}.attention.output.LayerNorm`,
      up: `${layer}.intermediate.dense`,
      down: `${layer}.output.dense`,
      feedForwardNorm: `${layer}.output.LayerNorm`,
    };
  },
};
