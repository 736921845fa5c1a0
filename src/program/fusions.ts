import { ACTIVATION } from "../ops/activation.ts";
import { ADD } from "../ops/add.ts";
import { GATED_ACTIVATION } from "../ops/gated_activation.ts";
import { KV_APPEND } from "../ops/kv_append.ts";
import { LAYER_NORM } from "../ops/layer_norm.ts";
import { LINEAR, type LinearAttrs, linearAcceptsGate, linearAcceptsNorm } from "../ops/linear.ts";
import type { OpDef, OpNode, Value } from "../ops/op.ts";
import { RMS_NORM } from "../ops/rms_norm.ts";
import { ROPE } from "../ops/rope.ts";
import { ROPE_APPEND } from "../ops/rope_append.ts";
import type { Fusion, FusionContext, FusionRule } from "./fuse.ts";

function isCallOf<A>(node: OpNode | undefined, op: OpDef<A>): node is OpNode<A> {
  return node !== undefined && (node.op as unknown) === op;
}

/** A linear layer whose result `consumer` alone uses. */
function privateLinear(
  value: Value | undefined,
  consumer: OpNode,
  context: FusionContext,
): OpNode<LinearAttrs> | undefined {
  const maker = context.producer(value);
  return value && isCallOf(maker, LINEAR) && context.onlyFeeds(value, consumer) ? maker : undefined;
}

/** `linear` with more attributes and inputs, in place of it and of `last`, whose output it makes. */
function extend(linear: OpNode<LinearAttrs>, last: OpNode, attrs: LinearAttrs, inputs: OpNode["inputs"]): Fusion {
  const fused = {
    ...linear,
    attrs: { ...linear.attrs, ...attrs },
    inputs: { ...linear.inputs, ...inputs },
    outputs: last.outputs,
  };
  return { remove: [linear as OpNode, last], insert: fused as OpNode };
}

/** linear + activation → the product's epilogue. */
const linearActivation: FusionRule = {
  name: "linear + activation",
  apply(node, context) {
    if (!isCallOf(node, ACTIVATION)) return undefined;
    const linear = privateLinear(node.inputs.x, node as OpNode, context);
    if (!linear || linear.attrs.activation || linear.attrs.gated || linear.inputs.residual) return undefined;
    return extend(linear, node as OpNode, { activation: node.attrs.kind }, {});
  },
};

/** linear to [gate, up] + gated activation → one kernel that multiplies both halves. */
const linearGate: FusionRule = {
  name: "linear + gated activation",
  apply(node, context) {
    if (!isCallOf(node, GATED_ACTIVATION)) return undefined;
    const linear = privateLinear(node.inputs.x, node as OpNode, context);
    if (!linear || linear.attrs.activation || linear.attrs.gated || linear.inputs.residual) return undefined;
    const { x, weight } = linear.inputs;
    if (!x || !weight || !linearAcceptsGate(x, weight, context.facts)) return undefined;
    return extend(linear, node as OpNode, { gated: node.attrs.kind }, {});
  },
};

/** linear + residual → the product's epilogue. */
const linearResidual: FusionRule = {
  name: "linear + residual",
  apply(node, context) {
    if (!isCallOf(node, ADD) || node.attrs.aFactor !== 1 || node.attrs.bFactor !== 1) return undefined;
    const { a, b } = node.inputs;
    if (!a || !b || a === b) return undefined;
    for (const [made, residual] of [
      [b, a],
      [a, b],
    ] as const) {
      const linear = privateLinear(made, node as OpNode, context);
      if (linear && !linear.inputs.residual) return extend(linear, node as OpNode, {}, { residual });
    }
    return undefined;
  },
};

/** RMS or layer norm + linear of few rows → each workgroup norms the row that it multiplies. */
const normLinear: FusionRule = {
  name: "norm + linear",
  apply(node, context) {
    if (!isCallOf(node, LINEAR) || node.attrs.norm) return undefined;
    const { x } = node.inputs;
    const norm = context.producer(x);
    if (!x || !norm || !context.onlyFeeds(x, node as OpNode)) return undefined;
    const source = norm.inputs.x;
    if (!source || !linearAcceptsNorm(source, context.facts)) return undefined;
    const inputs = { ...node.inputs, x: source, norm_weight: norm.inputs.weight, norm_bias: norm.inputs.bias };
    const replaced = (attrs: LinearAttrs): Fusion => ({
      remove: [norm, node as OpNode],
      insert: { ...node, inputs, attrs: { ...node.attrs, ...attrs } } as OpNode,
    });
    // Linear norms whole rows, not heads.
    if (isCallOf(norm, RMS_NORM) && norm.attrs.heads === undefined) {
      return replaced({ norm: { kind: "rms", ...norm.attrs } });
    }
    if (isCallOf(norm, LAYER_NORM)) return replaced({ norm: { kind: "layer", ...norm.attrs } });
    return undefined;
  },
};

/** rope(q), rope(k) and the append of k and v → one dispatch. */
const ropeAppend: FusionRule = {
  name: "rope + rope + kv append",
  apply(node, context) {
    if (!isCallOf(node, KV_APPEND)) return undefined;
    const { k, v, kv, rowTable, pageTable } = node.inputs;
    const turnK = context.producer(k);
    // Blocks of q8_0 need the largest of 32 turned channels, which is no work for one invocation a pair.
    if (kv?.dtype === "u32") return undefined;
    if (!k || !isCallOf(turnK, ROPE) || !context.onlyFeeds(k, node as OpNode)) return undefined;
    const { table, positions } = turnK.inputs;
    if (positions !== rowTable) return undefined;
    const turnQ = context.find((n) => {
      if (!isCallOf(n, ROPE) || n === (turnK as unknown)) return false;
      const sameTurn = n.attrs.rotaryDim === turnK.attrs.rotaryDim && n.attrs.interleaved === turnK.attrs.interleaved;
      const sibling = n.inputs.x?.view !== undefined && n.inputs.x.view.base === turnK.inputs.x?.view?.base;
      return sibling && sameTurn && n.inputs.table === table && n.inputs.positions === positions;
    });
    if (!isCallOf(turnQ, ROPE) || context.usedBefore(turnQ.outputs[0], node as OpNode)) return undefined;
    const inputs = { q: turnQ.inputs.x, k: turnK.inputs.x, v, kv, rowTable, pageTable, table };
    const attrs = { ...turnQ.attrs, kvHeads: node.attrs.kvHeads };
    const insert = {
      ...node,
      op: ROPE_APPEND as unknown as OpDef,
      inputs,
      attrs,
      outputs: turnQ.outputs,
      label: node.label.replace(/[^/]*$/, "rope_append"),
    };
    return { remove: [turnQ as OpNode, turnK as OpNode, node as OpNode], insert };
  },
};

/** The fusion table. Each entry has a test in `test/program/fuse.test.ts` that holds fused against unfused. */
export const FUSIONS: readonly FusionRule[] = [linearActivation, linearGate, linearResidual, normLinear, ropeAppend];
