import type { GpuFacts } from "../gpu/device.ts";
import type { OpNode, Value } from "../ops/op.ts";
import { FUSIONS } from "./fusions.ts";
import { presentInputs } from "./liveness.ts";
import { rootOf } from "./record.ts";

/** What a fusion rule may ask about the nodes around the one that it looks at. */
export interface FusionContext {
  readonly facts: GpuFacts;
  /** The node that makes a value, if it is among the live ones. */
  producer(value: Value | undefined): OpNode | undefined;
  /** The first node that `wanted` accepts. */
  find(wanted: (node: OpNode) => boolean): OpNode | undefined;
  /** True if a node before `node` reads the value. */
  usedBefore(value: Value | undefined, node: OpNode): boolean;
  /** True if `consumer` alone reads the value (views included) and nobody wants it after the replay. */
  onlyFeeds(value: Value, consumer: OpNode): boolean;
}

/** The nodes to take out and the one to put in their place; it stands where the last of them stood. */
export interface Fusion {
  readonly remove: readonly OpNode[];
  readonly insert: OpNode;
}

/** One entry of the table: looks at a node as the last of its pattern. */
export interface FusionRule {
  readonly name: string;
  apply(node: OpNode, context: FusionContext): Fusion | undefined;
}

/** Applies the table until nothing changes. Values in `kept` are captured or outputs and are never fused away. */
export function fuse(nodes: readonly OpNode[], kept: ReadonlySet<Value>, facts: GpuFacts): OpNode[] {
  let current = [...nodes];
  for (const rule of FUSIONS) {
    for (;;) {
      const context = contextOf(current, kept, facts);
      const { next, changed } = pass(current, rule, context);
      current = next;
      if (!changed) break;
    }
  }
  return current;
}

/** One sweep of one rule; nodes that took part in a fusion are left for the next sweep. */
function pass(
  nodes: readonly OpNode[],
  rule: FusionRule,
  context: FusionContext,
): { next: OpNode[]; changed: boolean } {
  const removed = new Set<OpNode>();
  const inserted = new Map<OpNode, OpNode>();
  for (const node of nodes) {
    if (removed.has(node)) continue;
    const fusion = rule.apply(node, context);
    if (!fusion || fusion.remove.some((n) => removed.has(n))) continue;
    for (const n of fusion.remove) removed.add(n);
    inserted.set(node, fusion.insert);
  }
  const next = nodes.flatMap((n) => inserted.get(n) ?? (removed.has(n) ? [] : n));
  return { next, changed: inserted.size > 0 };
}

function contextOf(nodes: readonly OpNode[], kept: ReadonlySet<Value>, facts: GpuFacts): FusionContext {
  const producers = new Map<Value, OpNode>();
  const consumers = new Map<Value, Set<OpNode>>();
  for (const node of nodes) {
    for (const v of node.outputs) producers.set(v, node);
    for (const v of presentInputs(node)) {
      for (const key of new Set([v, rootOf(v)])) {
        const set = consumers.get(key) ?? new Set();
        consumers.set(key, set.add(node));
      }
    }
  }
  return {
    facts,
    producer: (value) => (value ? producers.get(value) : undefined),
    find: (wanted) => nodes.find(wanted),
    usedBefore(value, node) {
      const at = nodes.indexOf(node);
      return [...(value ? (consumers.get(value) ?? []) : [])].some((n) => nodes.indexOf(n) < at);
    },
    onlyFeeds(value, consumer) {
      if (kept.has(value)) return false;
      const set = consumers.get(value);
      return set !== undefined && set.size === 1 && set.has(consumer);
    },
  };
}
