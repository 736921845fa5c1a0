import { Tensor } from "../gpu/tensor.ts";
import { mapLeaves, mapRules, type WeightRule, type WeightTree } from "../models/family.ts";

/** A tensor that training may change. */
export interface Parameter {
  /** Its first name in a checkpoint, such as `h.0.attn.c_attn.weight`; unique within a model. */
  readonly name: string;
  /** f32, in the layout that the kernels read. */
  readonly tensor: Tensor;
  /** False for norms and biases, which weight decay leaves alone. */
  readonly decays: boolean;
}

/** True for the tensors of a tree of weights. */
export function isTensor(node: WeightTree<Tensor>): node is Tensor {
  return node instanceof Tensor;
}

/** The tensors of a tree with the rules that they belong to, each once, in the tree's order. */
export function ruledTensors(
  rules: WeightTree<WeightRule>,
  tree: WeightTree<Tensor>,
): { readonly rule: WeightRule; readonly tensor: Tensor }[] {
  const [allRules, tensors]: [WeightRule[], Tensor[]] = [[], []];
  mapRules(rules, (rule) => allRules.push(rule));
  mapLeaves(tree, isTensor, (tensor) => tensors.push(tensor));
  const seen = new Set<Tensor>();
  return allRules.flatMap((rule, i) => {
    const tensor = tensors[i];
    if (!tensor || seen.has(tensor)) return [];
    seen.add(tensor);
    return [{ rule, tensor }];
  });
}

/** Every tensor of a model as a parameter. */
export function parametersOf(rules: WeightTree<WeightRule>, tree: WeightTree<Tensor>): Parameter[] {
  return ruledTensors(rules, tree).map(({ rule, tensor }) => ({
    name: rule.from[0] ?? tensor.label,
    tensor,
    decays: rule.role === "matrix",
  }));
}

/** Frees every tensor of a tree. */
export function disposeTree(tree: WeightTree<Tensor>): void {
  mapLeaves(tree, isTensor, (tensor) => tensor.dispose());
}
