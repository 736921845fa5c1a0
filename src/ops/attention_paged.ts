import noLseCode from "../../shaders/lib/attention_lse_none.wgsl";
import pagedCode from "../../shaders/lib/attention_paged.wgsl";
import rowsCode from "../../shaders/lib/attention_rows.wgsl";
import tilesCode from "../../shaders/lib/attention_tiles.wgsl";
import prefixTilesCode from "../../shaders/lib/attention_tiles_prefix.wgsl";
import { chosenPrefill, chosenSplits } from "./choices.ts";
import { HeedError } from "../core/errors.ts";
import { dim, formatTensor, shapeError } from "../core/shape.ts";
import type { Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import {
  type Addressing,
  attentionQueryTile,
  checkKernel,
  lowerDecode,
  prefillDispatch,
  prefillKernel,
  splitKeys,
} from "./attention_kernels.ts";
import { finalPart, kvPart, LOG2_E, maskPart } from "./attention_parts.ts";
import {
  checkScores,
  linkScores,
  SCORE_OPTIONS,
  type ScoreAttrs,
  type ScoreOptions,
  splitScores,
} from "./attention_score.ts";
import { checkOptions, checkSizes, maskBounds, scaleOf } from "./attention_spec.ts";
import { isPool, PAGE_TOKENS } from "./kv_pool.ts";
import { type Inputs, only, type OpDef, type OpNode, type Recorder, rowLayout, shader, type Value } from "./op.ts";

/** What both paged ops take. */
export interface PagedAttentionOptions extends ScoreOptions {
  /** H. */
  readonly heads: number;
  /** Hkv. */
  readonly kvHeads: number;
  /** D; a multiple of 4. */
  readonly headDim: number;
  /** Columns of the page table: a sequence has at most 32 times as many keys. */
  readonly maxPages: number;
  /** Of q·k; default `1 / √D`. */
  readonly scale?: number;
  /** Keep keys j > p − window. Default: no window. */
  readonly window?: number | undefined;
}

/** The options as attributes: what is a tensor is one of the op's inputs instead. */
type PagedAttrs = Omit<PagedAttentionOptions, keyof ScoreOptions> & ScoreAttrs;

type PrefillAttrs = PagedAttrs & Pick<PagedPrefillOptions, "kernel">;
type DecodeAttrs = PagedAttrs & Pick<PagedDecodeOptions, "maxSplits">;

/** What {@link attentionPaged} takes. */
export interface PagedPrefillOptions extends PagedAttentionOptions {
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: "tiled" | "lanes";
}

/** What {@link attentionDecodePaged} takes. */
export interface PagedDecodeOptions extends PagedAttentionOptions {
  /** Most ways to split a row's keys over workgroups; default 16, and 1 on CPU adapters, whose cores the heads fill. */
  readonly maxSplits?: number;
}

/** What both paged ops read; q are rows `[N, H·D]` f32 or columns of a wider matrix. */
export interface PagedInputs {
  readonly q: Value;
  /** `[pages, 2, Hkv, 32, D]`: K, then V of each page; f32 or f16. */
  readonly kv: Value;
  /** `[N, 2]` u32: (slot, position); slot 0xffffffff marks a row without a token. */
  readonly rowTable: Value;
  /** `[slots, maxPages]` u32. */
  readonly pageTable: Value;
}

const PAGED = shader("lib/attention_paged.wgsl", pagedCode);
const TILES = shader("lib/attention_tiles.wgsl", tilesCode);
const PREFIX_TILES = shader("lib/attention_tiles_prefix.wgsl", prefixTilesCode);
const ROWS = shader("lib/attention_rows.wgsl", rowsCode);
const NO_LSE = shader("lib/attention_lse_none.wgsl", noLseCode);

const OPTIONS = ["heads", "kvHeads", "headDim", "maxPages", "scale", "window"];
/** Names of the options as callers give them. */
const GIVEN = [...OPTIONS, ...SCORE_OPTIONS];
const DEFAULT_MAX_SPLITS = { gpu: 16, software: 1 };

const ATTENTION_PAGED: OpDef<PrefillAttrs> = {
  name: "attentionPaged",
  infer(inputs, attrs) {
    const q = checkPaged("attentionPaged", inputs, attrs);
    const { tileTable } = inputs;
    if (tileTable?.shape.length !== 2 || ![4, 8].includes(dim(tileTable.shape, 1)) || tileTable.dtype !== "u32") {
      throw shapeError(
        "attentionPaged",
        "tileTable must be [tiles, 4] u32, or [tiles, 8] with prefixes",
        tileTable ? formatTensor("tileTable", tileTable) : "nothing",
      );
    }
    checkKernel("attentionPaged", attrs.kernel, attrs.headDim);
    return [{ shape: q.shape, dtype: "f32" }];
  },
  lower(node, { facts, dispatch }) {
    const { tileTable } = node.inputs as { tileTable: Value };
    const { heads, headDim, kernel = chosenPrefill(facts, headDim) ?? prefillKernel(facts, headDim) } = node.attrs;
    const most = dim(tileTable.shape, 0);
    const tiles = dim(tileTable.shape, 1) === 8 ? PREFIX_TILES : TILES;
    dispatch(
      prefillDispatch(kernel, pagedAddressing(node, facts, tiles, { tile_table: tileTable }), {
        facts,
        dim: headDim,
        tileSize: attentionQueryTile(facts),
        workgroups: ({ tiles = most }) => [Math.min(tiles, most), heads],
      }),
    );
  },
};

const ATTENTION_DECODE: OpDef<DecodeAttrs> = {
  name: "attentionDecodePaged",
  infer(inputs, attrs) {
    const q = checkPaged("attentionDecodePaged", inputs, attrs);
    const { rowTable } = inputs;
    if (
      rowTable?.shape.length !== 2 ||
      rowTable.shape[0] !== q.shape[0] ||
      rowTable.shape[1] !== 2 ||
      rowTable.dtype !== "u32"
    ) {
      const got = rowTable ? formatTensor("rowTable", rowTable) : "nothing";
      throw shapeError("attentionDecodePaged", "rowTable must be [N, 2] u32", `${got}, ${formatTensor("q", q)}`);
    }
    const { maxSplits } = attrs;
    if (maxSplits !== undefined && !(Number.isInteger(maxSplits) && maxSplits >= 1)) {
      throw new HeedError("USAGE", `attentionDecodePaged: maxSplits must be a whole number from 1; got ${maxSplits}.`);
    }
    return [{ shape: q.shape, dtype: "f32" }];
  },
  lower(node, context) {
    const { heads, kvHeads, headDim } = node.attrs;
    const byRule = context.facts.software ? DEFAULT_MAX_SPLITS.software : DEFAULT_MAX_SPLITS.gpu;
    const { maxSplits = chosenSplits(context.facts) ?? byRule } = node.attrs;
    const { q, rowTable } = node.inputs as unknown as PagedInputs;
    const capacity = capacityOf(node.attrs);
    lowerDecode(context, pagedAddressing(node, context.facts, ROWS, { row_table: rowTable }), {
      heads,
      kvHeads,
      valueDim: headDim,
      rows: dim(q.shape, 0),
      ...splitKeys(capacity, maxSplits, PAGE_TOKENS),
      longest: ({ keys = capacity }) => keys,
    });
  },
};

/**
 * Attention of a prefill chunk over a paged pool; every query sees the keys of its sequence up to its own position.
 *
 * q `[N, H·D]` f32, kv `[pages, 2, Hkv, 32, D]` f32 or f16 or q8_0 ({@link isPool}), pageTable `[slots, maxPages]` u32, tileTable `[tiles, 4]` u32:
 * (first row, rows ≤ {@link attentionQueryTile}, slot, first position), made by the host so that no tile crosses
 * sequences; slot 0xffffffff gives rows of 0. Tables `[tiles, 8]` have a prefix length in the fifth column: the tile's rows see
 * that many first keys of the sequence whatever their own position, which all have to be in the pool. The chunk's own keys
 * are appended before. → out `[N, H·D]`; rows of no tile are not written. At replay `dims.tiles` is the number of tiles (default all). `rowTable` is not read: tiles carry slot
 * and position. Throws `SHAPE`, `USAGE` or `UNSUPPORTED`.
 */
export function attentionPaged(
  rec: Recorder,
  inputs: PagedInputs & { readonly tileTable: Value },
  options: PagedPrefillOptions,
): Value {
  checkOptions("attentionPaged", options, [...GIVEN, "kernel"]);
  const { values, attrs } = splitScores("attentionPaged", options);
  return only(rec.record(ATTENTION_PAGED, { ...inputs, ...values }, attrs));
}

/**
 * Attention of single rows over a paged pool: row i, of (slot, position) = rowTable[i], sees keys 0..position.
 *
 * q `[N, H·D]` f32, kv `[pages, 2, Hkv, 32, D]` f32 or f16 or q8_0 ({@link isPool}), rowTable `[N, 2]` u32, pageTable `[slots, maxPages]` u32 →
 * out `[N, H·D]`; 0 for a row of slot 0xffffffff. Keys are split over workgroups at fixed positions, so a row's result
 * does not depend on the others. At replay `dims.keys` is the longest key length (default the capacity).
 * Throws `SHAPE`, `USAGE` or `UNSUPPORTED`. Source: "Flash-Decoding for long-context inference" (2023).
 */
export function attentionDecodePaged(rec: Recorder, inputs: PagedInputs, options: PagedDecodeOptions): Value {
  checkOptions("attentionDecodePaged", options, [...GIVEN, "maxSplits"]);
  const { values, attrs } = splitScores("attentionDecodePaged", options);
  return only(rec.record(ATTENTION_DECODE, { ...inputs, ...values }, attrs));
}

function capacityOf({ maxPages }: PagedAttrs): number {
  return maxPages * PAGE_TOKENS;
}

/** How a kernel finds its rows in q, the pool and out; `tiles` is the part that says which rows a workgroup has. */
function pagedAddressing(
  { op, inputs, outputs, attrs }: OpNode<PagedAttrs>,
  facts: GpuFacts,
  tiles: Shader,
  table: Record<string, Value>,
): Addressing {
  const { q, kv, pageTable } = inputs as unknown as PagedInputs;
  const { heads, kvHeads, headDim, maxPages } = attrs;
  const { offset, rowStride } = rowLayout(q);
  const columns = headDim / 4;
  const scores = linkScores(op.name, inputs, attrs);
  return {
    parts: [
      maskPart(),
      finalPart(scores.isModified),
      { parts: scores.isModified ? scores.parts : [] },
      { parts: [PAGED, tiles, NO_LSE] },
      kvPart(kv, facts),
    ],
    bindings: { q, kv, page_table: pageTable, out: only(outputs), ...table, ...scores.bindings },
    params: {
      // A row sees the keys up to its own.
      ...maskBounds(op.name, { causal: true, window: attrs.window }),
      heads,
      group: heads / kvHeads,
      key_heads: kvHeads,
      columns,
      value_columns: columns,
      splits: 1,
      split_keys: capacityOf(attrs),
      factor: scaleOf(op.name, attrs) * (scores.isModified ? 1 : LOG2_E),
      ...scores.params,
      q_offset: offset / 4,
      q_row: rowStride / 4,
      k_row: columns,
      v_row: columns,
      max_pages: maxPages,
    },
  };
}

function checkPaged(op: string, { q, kv, pageTable, ...modifiers }: Inputs, attrs: PagedAttrs): Value {
  const { heads, kvHeads, headDim, maxPages } = attrs;
  const tensors = [q ? formatTensor("q", q) : "no q", kv ? formatTensor("kv", kv) : "no kv"].join(", ");
  checkSizes(op, attrs, tensors);
  if (headDim % 4 !== 0) {
    throw new HeedError(
      "UNSUPPORTED",
      `${op}: D must be a multiple of 4 in a paged cache; got D ${headDim}. Run without a cache.`,
    );
  }
  if (q?.shape.length !== 2 || dim(q.shape, 1) !== heads * headDim || q.dtype !== "f32") {
    throw shapeError(op, `q must be [N, H·D] = [N, ${heads * headDim}] f32`, tensors);
  }
  const { offset, rowStride } = rowLayout(q);
  if (offset % 4 !== 0 || rowStride % 4 !== 0) {
    throw shapeError(
      op,
      "q's columns must begin at a multiple of 4 in rows that are one wide",
      `offset ${offset}, row stride ${rowStride}`,
    );
  }
  if (!isPool(kv, kvHeads, headDim)) {
    const page = [2, kvHeads, PAGE_TOKENS, headDim];
    throw shapeError(op, `kv must be [pages, 2, Hkv, 32, D] = [pages, ${page.join(", ")}] f32 or f16`, tensors);
  }
  if (pageTable?.shape.length !== 2 || dim(pageTable.shape, 1) !== maxPages || pageTable.dtype !== "u32") {
    const got = pageTable ? formatTensor("pageTable", pageTable) : "nothing";
    throw shapeError(op, `pageTable must be [slots, maxPages] = [slots, ${maxPages}] u32`, got);
  }
  maskBounds(op, { window: attrs.window });
  scaleOf(op, attrs);
  checkScores(op, modifiers, attrs);
  return q;
}
