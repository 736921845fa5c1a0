import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { isPool, PAGE_TOKENS } from "./kv_pool.ts";
import { type Inputs, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import code from "../../shaders/kv_append.wgsl";
import blockCode from "../../shaders/kv_append_q8_0.wgsl";
import pagesCode from "../../shaders/lib/kv_pages.wgsl";
import rowsCode from "../../shaders/lib/kv_rows.wgsl";
import pairF16 from "../../shaders/lib/kv_pair_f16.wgsl";
import pairF16Packed from "../../shaders/lib/kv_pair_f16_packed.wgsl";
import pairF32 from "../../shaders/lib/kv_pair_f32.wgsl";

export { PAGE_TOKENS };

const KERNEL = shader("kv_append.wgsl", code);
const BLOCK_KERNEL = shader("kv_append_q8_0.wgsl", blockCode);

const ROWS = shader("lib/kv_rows.wgsl", rowsCode);
/** `page_of`: the page of a token, for kernels that write there. */
export const PAGES_PART = shader("lib/kv_pages.wgsl", pagesCode);

/** Sizes of a key or value row. */
export interface KvAppendAttrs {
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What is written and where to. */
export interface KvAppendInputs {
  /** `[N, kvHeads · headDim]` f32, or views. */
  readonly k: Value;
  readonly v: Value;
  /** State, such as {@link isPool} takes: `[pages, 2, kvHeads, 32, headDim]` f32 or f16, or blocks of q8_0. */
  readonly kv: Value;
  /** `[N, 2]` u32: slot (0xffffffff: inactive) and position of each row. */
  readonly rowTable: Value;
  /** `[slots, maxPages]` u32: page of each 32 positions of a slot. */
  readonly pageTable: Value;
}

export const KV_APPEND: OpDef<KvAppendAttrs> = {
  name: "kv_append",
  writes: ["kv"],
  infer(inputs, attrs) {
    const { rows } = rowsAndColumns("kv_append", "k", inputs["k"]);
    checkKvRows("kv_append", inputs, rows, attrs);
    checkPool("kv_append", inputs, rows, attrs);
    return [];
  },
  lower({ inputs, attrs }, { dispatch, facts }) {
    const [k, v, kv] = [need(inputs, "k"), need(inputs, "v"), need(inputs, "kv")];
    const rows = k.shape[0] as number;
    const inBlocks = kv.dtype === "u32";
    const invocations = (rows * attrs.kvHeads * attrs.headDim) / (inBlocks ? 16 : 1);
    const pair = inBlocks ? undefined : kvPairVariant(kv, facts);
    dispatch({
      kernel: {
        ...pair,
        kernel: inBlocks ? BLOCK_KERNEL : KERNEL,
        parts: [ROWS, PAGES_PART, ...(pair?.parts ?? [])],
      },
      bindings: { k, v, kv, row_table: need(inputs, "rowTable"), page_table: need(inputs, "pageTable") },
      params: {
        rows,
        heads: attrs.kvHeads,
        head_dim: attrs.headDim,
        k_offset: layoutIn(k, 1).offset,
        k_stride: layoutIn(k, 1).rowStride,
        v_offset: layoutIn(v, 1).offset,
        v_stride: layoutIn(v, 1).rowStride,
        ...poolParams(inputs),
      },
      workgroups: spreadWorkgroups(ceilDiv(invocations, 64)),
    });
  },
};

/** The part that packs two channels as the pool stores them. */
export function kvPairVariant(kv: Value, facts: GpuFacts): Pick<KernelVariant, "parts" | "enable"> {
  if (kv.dtype === "f32") return { parts: [shader("lib/kv_pair_f32.wgsl", pairF32)], enable: [] };
  if (facts.f16) return { parts: [shader("lib/kv_pair_f16.wgsl", pairF16)], enable: ["f16"] };
  return { parts: [shader("lib/kv_pair_f16_packed.wgsl", pairF16Packed)], enable: [] };
}

/** Slots, pages per slot and pages of the pool, as the kernels' params. */
export function poolParams(inputs: Inputs): { slots: number; max_pages: number; pages: number } {
  const [slots, maxPages] = need(inputs, "pageTable").shape as [number, number];
  return { slots, max_pages: maxPages, pages: need(inputs, "kv").shape[0] as number };
}

/** Throws `SHAPE` unless k and v are `[N, kvHeads · headDim]` with an even head size. */
export function checkKvRows(op: string, { k, v }: Inputs, rows: number, { kvHeads, headDim }: KvAppendAttrs): void {
  for (const [name, value] of Object.entries({ k, v })) {
    const got = rowsAndColumns(op, name, value);
    if (got.rows !== rows || got.columns !== kvHeads * headDim || headDim % 2 !== 0) {
      const rule = `${name} must be [N, kvHeads · headDim] with N = ${rows}, kvHeads = ${kvHeads}, even headDim = ${headDim}`;
      throw shapeError(op, rule, formatTensor(name, need({ value }, "value")));
    }
  }
}

/** Throws `SHAPE` unless the pool, the row table and the page table fit each other. */
export function checkPool(op: string, inputs: Inputs, rows: number, { kvHeads, headDim }: KvAppendAttrs): void {
  const { kv, rowTable, pageTable } = inputs;
  if (!isPool(kv, kvHeads, headDim)) {
    const rule = `kv must be [pages, 2, ${kvHeads}, ${PAGE_TOKENS}, ${headDim}] f32 or f16`;
    throw shapeError(op, rule, kv ? formatTensor("kv", kv) : "nothing");
  }
  if (
    rowTable?.dtype !== "u32" ||
    rowTable.shape.length !== 2 ||
    rowTable.shape[0] !== rows ||
    rowTable.shape[1] !== 2
  ) {
    const got = rowTable ? formatTensor("rowTable", rowTable) : "nothing";
    throw shapeError(op, `rowTable must be [N, 2] u32 with N = ${rows}`, got);
  }
  if (pageTable?.dtype !== "u32" || pageTable.shape.length !== 2) {
    throw shapeError(
      op,
      "pageTable must be [slots, maxPages] u32",
      pageTable ? formatTensor("pageTable", pageTable) : "nothing",
    );
  }
}

/**
 * Writes the key and value of each row into the page of its position. Rows that are inactive, or whose position has no
 * page, write nothing.
 *
 * Shapes as in {@link KvAppendInputs}; returns nothing. Throws `SHAPE`.
 */
export function kvAppend(rec: Recorder, inputs: KvAppendInputs, attrs: KvAppendAttrs): void {
  rec.record(KV_APPEND, { ...inputs }, attrs);
}
