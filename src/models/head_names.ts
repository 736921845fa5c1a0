/** Tensors and layers of heads, as checkpoints call them. */
export const HEAD_TENSOR =
  /^(lm_head|embed_out|classifier|score|qa_outputs|pre_classifier|cls|vocab_\w+|mlm_head|generator)(\.|$)/;
