/** Rows of a decode plan: few sizes, so that few plans exist. */
const GROUP_ROWS = [1, 2, 4, 8, 16, 32] as const;

/** Rows of one decode step at most; others wait, or take a step of their own. */
export const MOST_ROWS = 32;

/** Rows of the smallest decode plan for so many sequences. */
export function groupRows(sequences: number): number {
  return GROUP_ROWS.find((n) => n >= sequences) ?? sequences;
}
