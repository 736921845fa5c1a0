import { HeedError, invariant } from "../core/errors.ts";
import { formatTensor } from "../core/shape.ts";
import { add } from "../ops/add.ts";
import { fill } from "../ops/fill.ts";
import type { OpNode, Value } from "../ops/op.ts";
import { presentInputs } from "./liveness.ts";
import type { ProgramRecorder, RecomputedRegion } from "./record.ts";

/** Records the gradients of a scalar loss and returns them in the order of `wrt`; see {@link gradientsFrom}. */
export function gradients(rec: ProgramRecorder, loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.shape.some((d) => d !== 1)) {
    throw new HeedError("SHAPE", `gradients: the loss must be a scalar [1]; got ${formatTensor("loss", loss)}`);
  }
  return gradientsFrom(rec, new Map([[loss, fill(rec, loss.shape, 1)]]), wrt);
}

/**
 * Records the gradients of `Σ out · seed` over all seeds and returns them in the order of `wrt`. Walks the record backwards and
 * lets each op record its own gradient; contributions to one value are added in that fixed order. Nodes that no
 * `wrt` value reaches cost nothing. Intermediates of recomputed regions are recorded a second time here, so that
 * the first ones die at the end of the forward pass.
 */
export function gradientsFrom(rec: ProgramRecorder, seeds: ReadonlyMap<Value, Value>, wrt: readonly Value[]): Value[] {
  const forward = [...rec.nodes];
  const reached = reachedFrom(forward, wrt);
  const grads = new Map<Value, Value>(seeds);
  const again = new Map<Value, Value>();
  for (let i = forward.length - 1; i >= 0; i--) {
    const node = forward[i] as OpNode;
    const region = rec.regions.find((r) => r.end - 1 === i);
    if (region && region.end > region.start) recompute(rec, forward, region, again);
    const outputGrads = node.outputs.map((v) => grads.get(v));
    if (outputGrads.every((g) => g === undefined)) continue;
    const needs = new Set(Object.keys(node.inputs).filter((k) => reached.has(node.inputs[k] as Value)));
    if (needs.size === 0) continue;
    backpropagate(rec, node, outputGrads, needs, grads, again);
  }
  return wrt.map((value) => grads.get(value) ?? fill(rec, value.shape, 0));
}

/** Every value that depends on one of `wrt`, those included. */
function reachedFrom(nodes: readonly OpNode[], wrt: readonly Value[]): Set<Value> {
  const reached = new Set(wrt);
  for (const node of nodes) {
    if (presentInputs(node).some((v) => reached.has(v))) for (const v of node.outputs) reached.add(v);
  }
  return reached;
}

/** Records a region's nodes once more; `again` maps its values to the new ones. */
function recompute(
  rec: ProgramRecorder,
  nodes: readonly OpNode[],
  region: RecomputedRegion,
  again: Map<Value, Value>,
): void {
  for (const node of nodes.slice(region.start, region.end)) {
    invariant((node.op.writes ?? []).length === 0, `recompute: ${node.label} writes a state and cannot run twice`);
    const copies = rec.recordAs(node.op, replaced(node, again).inputs, node.attrs, node.index);
    node.outputs.forEach((v, i) => {
      again.set(v, copies[i] as Value);
    });
  }
}

/** The node as it looks with recomputed values in place of the first ones. */
function replaced(node: OpNode, again: ReadonlyMap<Value, Value>): OpNode {
  const swap = (v: Value | undefined) => (v ? (again.get(v) ?? v) : undefined);
  return {
    ...node,
    inputs: Object.fromEntries(Object.entries(node.inputs).map(([k, v]) => [k, swap(v)])),
    outputs: node.outputs.map((v) => again.get(v) ?? v),
  };
}

function backpropagate(
  rec: ProgramRecorder,
  node: OpNode,
  outputGrads: readonly (Value | undefined)[],
  needs: ReadonlySet<string>,
  grads: Map<Value, Value>,
  again: ReadonlyMap<Value, Value>,
): void {
  const { backward } = node.op;
  if (!backward) {
    throw new HeedError(
      "UNSUPPORTED",
      `gradients: ${node.label} has no backward rule, and ${[...needs].join(", ")} need it`,
    );
  }
  const inputGrads = rec.scope("backward", () => backward(rec, replaced(node, again), outputGrads, needs));
  for (const [name, grad] of Object.entries(inputGrads)) {
    const input = node.inputs[name];
    if (!input || !needs.has(name)) continue;
    const sum = grads.get(input);
    grads.set(input, sum ? add(rec, sum, grad) : grad);
  }
}
