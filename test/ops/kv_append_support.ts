import { PAGE_TOKENS } from "../../src/ops/kv_append.ts";
import type { HostArray } from "../../src/program/run_ops.ts";
import { fromFloat16Bits, roundToFloat16 } from "../support/float16.ts";
import { f16, f32, u32 } from "../support/host.ts";
import { packQ80, unpackQ80 } from "../support/kv_q8_0.ts";

const INACTIVE = 0xffffffff;
const FILLER = 7;
const PAGES = 4;
const MAX_PAGES = 2;
// Slot 0 has pages 2 and 0, slot 1 has page 3 alone; page 1 belongs to nobody.
const PAGE_TABLE = [2, 0, 3, INACTIVE];
/** (slot, position): a page's first and last token, the next page, an inactive row, and three positions without a page. */
export const ROWS: readonly (readonly [number, number])[] = [
  [0, 0],
  [0, 31],
  [0, 32],
  [1, 5],
  [INACTIVE, 3],
  [1, 40],
  [1, 64],
  [9, 0],
];

/** Sizes and dtype of a pool. */
export interface PoolSizes {
  Hkv: number;
  D: number;
  half: boolean;
  /** In q8_0. */
  blocks?: boolean;
}

/** A pool in which every element is {@link FILLER}. */
export function poolTensor({ Hkv, D, half, blocks }: PoolSizes) {
  const shape = [PAGES, 2, Hkv, PAGE_TOKENS, D];
  const filler = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(FILLER);
  if (blocks) return u32([...shape.slice(0, 4), (D / 32) * 9], packQ80(filler), "state");
  return half ? f16(shape, filler, "state") : f32(shape, filler, "state");
}

/** The row table and the page table of {@link ROWS}. */
export function tables() {
  return { rowTable: u32([ROWS.length, 2], ROWS.flat()), pageTable: u32([2, MAX_PAGES], PAGE_TABLE) };
}

/** The pool after appending k and v `[rows, Hkv, D]`, by the definition. */
export function expectedPool({ Hkv, D, half }: PoolSizes, k: Float64Array, v: Float64Array): Float64Array {
  const pool = new Float64Array(PAGES * 2 * Hkv * PAGE_TOKENS * D).fill(FILLER);
  const stored = [k, v].map((x) => (half ? roundToFloat16(x) : x));
  for (const [n, [slot, position]] of ROWS.entries()) {
    const inTable = slot < 2 && position < MAX_PAGES * PAGE_TOKENS;
    const page = inTable ? PAGE_TABLE[slot * MAX_PAGES + Math.floor(position / PAGE_TOKENS)]! : INACTIVE;
    if (page === INACTIVE) continue;
    for (const [which, x] of stored.entries()) {
      for (let h = 0; h < Hkv; h++) {
        const token = ((page * 2 + which) * Hkv + h) * PAGE_TOKENS + (position % PAGE_TOKENS);
        for (let c = 0; c < D; c++) pool[token * D + c] = x[(n * Hkv + h) * D + c]!;
      }
    }
  }
  return pool;
}

/** The numbers of a pool that was read back. */
export function readPool({ half, blocks }: PoolSizes): (data: HostArray) => ArrayLike<number> {
  if (blocks) return unpackQ80;
  return (data) => (half ? fromFloat16Bits(Uint16Array.from(data)) : data);
}
