import { mapRules, type Model, type WeightRule, type WeightTree } from "./family.ts";

/** Tensors and layers of heads, as checkpoints call them. */
export const HEAD_TENSOR =
  /^(lm_head|embed_out|classifier|score|qa_outputs|pre_classifier|cls|vocab_\w+|mlm_head|predictions|generator|final_logits_bias)(\.|$)/;

/**
 * How `transformers` calls the tensors and layers of the architecture in `config`: behind a prefix, but for heads, which stand beside the
 * base model; that alone has none.
 */
export function publishedNames(
  { prefixes: [prefix = ""] }: Pick<Model, "prefixes">,
  { architectures }: Readonly<Record<string, unknown>>,
): (name: string) => string {
  const [architecture = ""] = Array.isArray(architectures) ? (architectures as unknown[]).map(String) : [];
  const isBase = /Model$/.test(architecture) && !/(Heads?|MT)Model$/.test(architecture);
  return (name) => (isBase || HEAD_TENSOR.test(name) ? name : prefix + name);
}

/** A model's rules with the names that its tensors have in published files: those under which it is saved. */
export function publishedRules(model: Model, config: Readonly<Record<string, unknown>>): WeightTree<WeightRule> {
  const nameOf = publishedNames(model, config);
  return mapRules(model.rules, (rule): WeightRule => ({ ...rule, from: rule.from.map(nameOf) }));
}
