/** Bytes in the unit that reads best, three digits: `1.04 MB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : threeDigits(value)} ${units[unit]}`;
}

/** Milliseconds as `840 ms` or `2.31 s`. */
export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${threeDigits(ms / 1000)} s`;
}

/** A rate with three digits. */
export function formatRate(perSecond: number): string {
  return threeDigits(perSecond);
}

/** A count with its noun: `1 token`, `2,048 tokens`. */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

function threeDigits(value: number): string {
  return value >= 100 ? Math.round(value).toString() : value.toPrecision(3);
}
