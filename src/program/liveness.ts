import type { OpNode, Value } from "../ops/op.ts";
import { rootOf } from "./record.ts";

/** The inputs of a node that are there. */
export function presentInputs(node: OpNode): Value[] {
  return Object.values(node.inputs).filter((v): v is Value => v !== undefined);
}

/** The nodes that an output or a written state depends on, in their order. */
export function liveNodes(nodes: readonly OpNode[], outputs: Iterable<Value>): OpNode[] {
  const needed = new Set<Value>([...outputs].flatMap((v) => [v, rootOf(v)]));
  const live: OpNode[] = [];
  for (const node of [...nodes].reverse()) {
    const writesState = (node.op.writes ?? []).some((name) => node.inputs[name] !== undefined);
    if (!writesState && !node.outputs.some((v) => needed.has(v))) continue;
    live.push(node);
    for (const v of presentInputs(node)) needed.add(v).add(rootOf(v));
  }
  return live.reverse();
}
