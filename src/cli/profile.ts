import type { DispatchTime } from "../program/profile.ts";

interface KernelTime {
  kernel: string;
  dispatches: number;
  elapsedMs: number;
}

/** A table of the time per kernel, the longest first, with what was measured and by which clock in its heading. */
export function formatProfile(times: readonly DispatchTime[], keys: number): string {
  const kernels = new Map<string, KernelTime>();
  for (const { kernel, elapsedMs } of times) {
    const sum = kernels.get(kernel) ?? { kernel, dispatches: 0, elapsedMs: 0 };
    sum.dispatches++;
    sum.elapsedMs += elapsedMs;
    kernels.set(kernel, sum);
  }
  const sorted = [...kernels.values()].sort((a, b) => b.elapsedMs - a.elapsedMs);
  const total = sorted.reduce((sum, { elapsedMs }) => sum + elapsedMs, 0);
  const gpu = times.every(({ clock }) => clock === "gpu");
  const clock = gpu ? "GPU time" : "wall time with waiting, as this device has no timestamps";
  const rows = [
    ["kernel", "dispatches", "ms", "share", "variant"],
    ...sorted.map(({ kernel, dispatches, elapsedMs }) => {
      const share = total > 0 ? `${((100 * elapsedMs) / total).toFixed(1)} %` : "";
      // A variant's name is long: it stands last, so that the figures stay together.
      const [, name = kernel, variant = ""] = /^(\w+)\((.*)\)$/.exec(kernel) ?? [];
      return [name, String(dispatches), elapsedMs.toFixed(3), share, variant];
    }),
    ["all", String(times.length), total.toFixed(3), "", ""],
  ];
  const heading = `One decode step at ${keys} tokens, each dispatch in a pass of its own: ${clock}`;
  return `${heading}\n${alignColumns(rows)}`;
}

/** Pads the cells of each column: text of the outer columns to the left, the figures between to the right. */
function alignColumns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number) => {
    const width = widths[column] ?? 0;
    return column === 0 || column === widths.length - 1 ? cell.padEnd(width) : cell.padStart(width);
  };
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}
