import { bytesPerElement } from "../core/dtype.ts";
import { numel } from "../core/shape.ts";
import type { Value } from "../ops/op.ts";
import { presentInputs } from "./liveness.ts";
import type { Plan } from "./replay.ts";

/** A plan in numbers; `String(description)` is the table that people read. */
export interface PlanDescription {
  readonly label: string;
  readonly dispatches: number;
  readonly passes: number;
  /** Dispatches by scope, such as `block.0`: 6. */
  readonly dispatchesByScope: Readonly<Record<string, number>>;
  readonly kernels: readonly { readonly label: string; readonly kernel: string }[];
  readonly bytes: {
    readonly weights: number;
    readonly states: number;
    readonly inputs: number;
    /** The slabs, each with the bytes it holds. */
    readonly slabs: readonly number[];
    /** What intermediates would take without reuse. */
    readonly withoutReuse: number;
  };
  toString(): string;
}

/** Counts what {@link Plan.describe} prints. */
export function describePlan(plan: Plan): PlanDescription {
  const dispatchesByScope: Record<string, number> = {};
  for (const d of plan.dispatches) {
    const scope = scopeOf(d.label);
    dispatchesByScope[scope] = (dispatchesByScope[scope] ?? 0) + 1;
  }
  const bound = new Set<Value>(plan.record.nodes.flatMap(presentInputs));
  const sum = (kind: Value["kind"]) =>
    [...bound].filter((v) => v.kind === kind && !v.view).reduce((n, v) => n + sizeOf(v), 0);
  const description = {
    label: plan.label,
    dispatches: plan.dispatches.length,
    passes: 1,
    dispatchesByScope,
    kernels: plan.dispatches.map(({ label, kernel }) => ({ label, kernel })),
    bytes: {
      weights: sum("weight"),
      states: sum("state"),
      inputs: sum("input"),
      slabs: plan.layout.slabBytes,
      withoutReuse: plan.layout.bytesWithoutReuse,
    },
  };
  return { ...description, toString: () => formatDescription(description) };
}

/** The outermost scope with its number: `block.3.attention/linear` is in `block.3`. */
function scopeOf(label: string): string {
  const scope = label.includes("/") ? label.slice(0, label.indexOf("/")) : "";
  return /^[^.]+(\.\d+)?/.exec(scope)?.[0] ?? "top";
}

function sizeOf(value: Value): number {
  return numel(value.shape) * bytesPerElement(value.dtype);
}

function formatDescription(d: Omit<PlanDescription, "toString">): string {
  const slabs = d.bytes.slabs.reduce((a, b) => a + b, 0);
  const lines = [
    `program ${d.label}: ${d.dispatches} dispatches in ${d.passes} pass`,
    `  weights ${formatBytes(d.bytes.weights)}, states ${formatBytes(d.bytes.states)}, inputs ${formatBytes(d.bytes.inputs)}`,
    `  intermediates ${formatBytes(slabs)} in ${d.bytes.slabs.length} slabs (${formatBytes(d.bytes.withoutReuse)} without reuse)`,
    ...Object.entries(d.dispatchesByScope).map(([scope, n]) => `  ${scope.padEnd(24)} ${n} dispatches`),
    ...d.kernels.map((k, i) => `  ${String(i).padStart(4)}  ${k.label.padEnd(40)} ${k.kernel}`),
  ];
  return lines.join("\n");
}

/** `1.5 MB`, decimal units. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
