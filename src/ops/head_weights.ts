import densePartCode from "../../shaders/lib/head_weights_dense.wgsl";
import lseCode from "../../shaders/lib/head_weights_lse.wgsl";
import noLseCode from "../../shaders/lib/head_weights_lse_none.wgsl";
import pagedPartCode from "../../shaders/lib/head_weights_paged.wgsl";
import code from "../../shaders/head_weights.wgsl";
import { invariant } from "../core/errors.ts";
import { dim, formatTensor, sameShape, shapeError } from "../core/shape.ts";
import { elementPart, keyElementPart } from "./attention_parts.ts";
import { checkScores, linkScores, type ScoreAttrs, type ScoreOptions, splitScores } from "./attention_score.ts";
import { checkSizes } from "./attention_spec.ts";
import { PAGE_TOKENS } from "./kv_append.ts";
import { isPool } from "./kv_pool.ts";
import { type Inputs, only, type OpDef, type OpNode, type Recorder, rowLayout, shader, type Value } from "./op.ts";
import { need, rowReduction } from "./rows.ts";

/** The attention whose weights are asked for. */
export interface HeadWeightsOptions extends ScoreOptions {
  /** H. */
  readonly heads: number;
  /** Hkv. */
  readonly kvHeads: number;
  /** D. */
  readonly headDim: number;
  /** Of q·k. */
  readonly scale: number;
  /** Keep keys j > p − window. Default: no window. */
  readonly window?: number | undefined;
  /** A query sees no later key; default true. */
  readonly causal?: boolean;
  /** With `causal`: keys j < prefix are seen by every query. Default 0. */
  readonly prefix?: number;
}

type HeadWeightsAttrs = Omit<HeadWeightsOptions, keyof ScoreOptions> & ScoreAttrs;

/** Weights of one whole sequence; `headList` `[h]` u32 names the heads. */
export interface DenseHeads {
  /** `[T, H·D]` f32, or columns of a wider matrix. */
  readonly q: Value;
  /** `[S, Hkv·D]` f32 or f16, or columns of a wider matrix. */
  readonly k: Value;
  readonly headList: Value;
  /** `[r]` u32: which rows of q are asked for. */
  readonly queries: Value;
  /** `[1, H, T]`: what attention saved of these rows; without it the sums are taken here. */
  readonly lse?: Value;
}

/** Weights over a paged pool, one query row a token; `headList` `[h]` u32 names the heads. */
export interface PagedHeads {
  /** `[N, H·D]` f32, or columns of a wider matrix. */
  readonly q: Value;
  /** `[pages, 2, Hkv, 32, D]` f32 or f16, or blocks of q8_0 as {@link isPool} takes them. */
  readonly kv: Value;
  readonly headList: Value;
  /** `[N, 2]` u32: (slot, position); slot 0xffffffff gives a row of 0. */
  readonly rowTable: Value;
  /** `[slots, maxPages]` u32. */
  readonly pageTable: Value;
}

const KERNEL = shader("head_weights.wgsl", code);
const DENSE = shader("lib/head_weights_dense.wgsl", densePartCode);
const PAGED = shader("lib/head_weights_paged.wgsl", pagedPartCode);
const LSE = shader("lib/head_weights_lse.wgsl", lseCode);
const NO_LSE = shader("lib/head_weights_lse_none.wgsl", noLseCode);

/** No window: more than any position, and no sum of the shader wraps. */
const UNBOUNDED = 0x7fffffff;

const HEAD_WEIGHTS: OpDef<HeadWeightsAttrs> = {
  name: "head_weights",
  infer(inputs, attrs) {
    checkInputs(inputs, attrs);
    return [{ shape: shapeOf(inputs), dtype: "f32" }];
  },
  lower(node, { facts, dispatch }) {
    const { inputs, attrs } = node;
    const weights = only(node.outputs);
    const [heads, rows, keys] = weights.shape as [number, number, number];
    const keyed = need(inputs, inputs["kv"] ? "kv" : "k");
    const { variant, workgroups } = rowReduction(facts, heads * rows, keys);
    const element = inputs["kv"] ? keyElementPart(keyed, facts) : elementPart(keyed.dtype as "f32" | "f16", facts);
    const addressing = inputs["kv"] ? pagedAddressing(node) : denseAddressing(node);
    const q = rowLayout(need(inputs, "q"));
    const scores = linkScores("head_weights", inputs, attrs);
    const { window, causal = true, prefix = 0 } = attrs;
    dispatch({
      kernel: {
        ...variant,
        kernel: KERNEL,
        parts: [...(variant.parts ?? []), ...element.parts, ...addressing.parts, ...scores.parts],
        enable: [...(variant.enable ?? []), ...(element.enable ?? [])],
      },
      bindings: {
        q: need(inputs, "q"),
        head_list: need(inputs, "headList"),
        weights,
        ...addressing.bindings,
        ...scores.bindings,
      },
      params: {
        rows,
        listed: heads,
        heads: attrs.heads,
        keys,
        head_dim: attrs.headDim,
        group: attrs.heads / attrs.kvHeads,
        left: window === undefined ? UNBOUNDED : window - 1,
        ahead: causal ? 0 : 1,
        prefix,
        scale: attrs.scale,
        q_offset: q.offset,
        q_row: q.rowStride,
        ...scores.params,
        ...addressing.params,
      },
      workgroups,
    });
  },
};

/**
 * Attention weights of chosen heads and query rows, rebuilt from q and k (and from `lse` where attention saved it):
 * exactly 0 where masked. → `[h, r, S]` for a sequence. It has no gradient. Throws `SHAPE` or `USAGE`.
 */
export function headWeights(rec: Recorder, inputs: DenseHeads, options: HeadWeightsOptions): Value {
  const { values, attrs } = splitScores("head_weights", options);
  return only(rec.record(HEAD_WEIGHTS, { ...inputs, ...values }, attrs));
}

/**
 * {@link headWeights} over a paged pool whose newest keys have been appended: row i sees the keys up to its own position.
 * → `[h, N, 32·maxPages]`, 0 past a row's position. Throws `SHAPE` or `USAGE`.
 */
export function headWeightsPaged(rec: Recorder, inputs: PagedHeads, options: HeadWeightsOptions): Value {
  const { values, attrs } = splitScores("head_weights", options);
  return only(rec.record(HEAD_WEIGHTS, { ...inputs, ...values }, attrs));
}

function shapeOf({ q, k, kv, headList, queries, pageTable }: Inputs): number[] {
  invariant(q && headList && ((kv && pageTable) || (k && queries)), "head_weights: inputs are missing");
  const heads = dim(headList.shape, 0);
  if (pageTable) return [heads, dim(q.shape, 0), dim(pageTable.shape, 1) * PAGE_TOKENS];
  return [heads, dim((queries as Value).shape, 0), dim((k as Value).shape, 0)];
}

function denseAddressing({ inputs }: OpNode<HeadWeightsAttrs>) {
  const k = need(inputs, "k");
  const { offset, rowStride } = rowLayout(k);
  const lse = inputs["lse"];
  return {
    parts: [DENSE, lse ? LSE : NO_LSE],
    bindings: { k, queries: need(inputs, "queries"), ...(lse ? { lse } : {}) },
    params: { k_offset: offset, k_row: rowStride, queries: dim(need(inputs, "q").shape, 0) },
  };
}

function pagedAddressing({ inputs, attrs }: OpNode<HeadWeightsAttrs>) {
  const pageTable = need(inputs, "pageTable");
  return {
    parts: [PAGED, NO_LSE],
    bindings: { kv: need(inputs, "kv"), row_table: need(inputs, "rowTable"), page_table: pageTable },
    params: { key_heads: attrs.kvHeads, max_pages: dim(pageTable.shape, 1) },
  };
}

function checkInputs(inputs: Inputs, attrs: HeadWeightsAttrs): void {
  const { heads, kvHeads, headDim } = attrs;
  const [q, headList] = [need(inputs, "q"), need(inputs, "headList")];
  checkSizes("head_weights", attrs, formatTensor("q", q));
  const rule = (name: string, value: Value | undefined, shape: readonly number[], dtypes: readonly string[]) => {
    if (value && sameShape(value.shape, shape) && dtypes.includes(value.dtype)) return;
    const got = value ? formatTensor(name, value) : "nothing";
    throw shapeError("head_weights", `${name} must be [${shape.join(", ")}] ${dtypes.join(" or ")}`, got);
  };
  const rows = q.shape[0] ?? 0;
  rule("q", q, [rows, heads * headDim], ["f32"]);
  rule("headList", headList, [headList.shape[0] ?? 0], ["u32"]);
  const { k, kv, queries, lse, rowTable, pageTable } = inputs;
  checkScores("head_weights", inputs, attrs);
  if (kv) {
    const pages = kv.shape[0] ?? 0;
    if (!isPool(kv, kvHeads, headDim)) rule("kv", kv, [pages, 2, kvHeads, PAGE_TOKENS, headDim], ["f32", "f16"]);
    rule("rowTable", rowTable, [rows, 2], ["u32"]);
    rule("pageTable", pageTable, [pageTable?.shape[0] ?? 0, pageTable?.shape[1] ?? 0], ["u32"]);
  } else {
    // Rows that see no later key are of the keys' own sequence.
    const keys = attrs.causal === false ? (k?.shape[0] ?? 0) : rows;
    rule("k", k, [keys, kvHeads * headDim], ["f32", "f16"]);
    rule("queries", queries, [queries?.shape[0] ?? 0], ["u32"]);
    if (lse) rule("lse", lse, [1, heads, rows], ["f32"]);
  }
}
