import combineCode from "../../shaders/attention_decode_combine.wgsl";
import decodeCode from "../../shaders/attention_decode.wgsl";
import decodeLanesCode from "../../shaders/attention_decode_lanes.wgsl";
import lanesCode from "../../shaders/attention_lanes.wgsl";
import shareCode from "../../shaders/lib/attention_share.wgsl";
import wholeCode from "../../shaders/lib/attention_whole.wgsl";
import tiledCode from "../../shaders/attention_tiled.wgsl";
import { HeedError } from "../core/errors.ts";
import { ceilDiv } from "../core/shape.ts";
import type { KernelVariant } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { blockPart, lanesPart, type LinkedPart, link } from "./attention_parts.ts";
import { type Bound, type Dims, type Dispatch, type LowerContext, shader } from "./op.ts";
import { looseReducePart } from "./reduce.ts";

/**
 * The kernels of fused attention. `tiled`: key tiles in workgroup memory, for GPUs. `lanes`: two queries an invocation
 * without barriers, for CPU adapters and large heads. `decode`: few queries, keys split over workgroups.
 */
export type AttentionKernel = "tiled" | "lanes" | "decode";

/** How a kernel finds q, k, v and out: the linked parts and what they bind and read from `Params`. */
export interface Addressing {
  readonly parts: readonly LinkedPart[];
  readonly bindings: Readonly<Record<string, Bound>>;
  readonly params: Readonly<Record<string, number>>;
}

/** How the keys of a row are split over workgroups. */
export interface Splits {
  readonly splits: number;
  readonly splitKeys: number;
}

const LANES = shader("attention_lanes.wgsl", lanesCode);
const TILED = shader("attention_tiled.wgsl", tiledCode);
const DECODE = shader("attention_decode.wgsl", decodeCode);
const DECODE_LANES = shader("attention_decode_lanes.wgsl", decodeLanesCode);
const COMBINE = shader("attention_decode_combine.wgsl", combineCode);
const WHOLE = shader("lib/attention_whole.wgsl", wholeCode);
const SHARE = shader("lib/attention_share.wgsl", shareCode);

const TILED_QUERIES = 64;
/** Largest D and Dv whose tiles fit 16 KiB of workgroup memory. */
const TILED_MAX_DIM = 128;
const SOFTWARE_QUERIES = 32;
/** Fewer where no table of tiles has to be made for them: causal tiles are closer to the diagonal. */
const SOFTWARE_DENSE_QUERIES = 16;
const DECODE_SIZE = 64;
const COMBINE_SIZE = 64;
/** vec4s of out that a lane of a CPU adapter's decode kernel adds up: what compiles fast. */
const LANE_TOTALS = 16;
/** Under so many keys a split costs more than it gives. */
const MIN_SPLIT_KEYS = 512;

/** Queries of one workgroup of fused attention; a tile of a host's tile table has at most so many rows. */
export function attentionQueryTile(facts: GpuFacts): number {
  return facts.software ? SOFTWARE_QUERIES : TILED_QUERIES;
}

/** The kernel for many queries: by the device and the larger of D and Dv. */
export function prefillKernel(facts: GpuFacts, dim: number): "tiled" | "lanes" {
  return facts.software || dim > TILED_MAX_DIM ? "lanes" : "tiled";
}

/** Throws `UNSUPPORTED` if a caller's choice of kernel is unknown or cannot take heads of this size. */
export function checkKernel(op: string, kernel: AttentionKernel | undefined, dim: number): void {
  if (kernel === undefined || kernel === "lanes" || kernel === "decode") return;
  if (kernel !== "tiled") {
    throw new HeedError("UNSUPPORTED", `${op}: kernel must be "tiled", "lanes" or "decode"; got "${String(kernel)}".`);
  }
  if (dim > TILED_MAX_DIM) {
    throw new HeedError(
      "UNSUPPORTED",
      `${op}: the tiled kernel takes D and Dv up to ${TILED_MAX_DIM}; got ${dim}. Leave kernel out.`,
    );
  }
}

/** True if this many queries a sequence are too few to fill a tile's invocations. */
export function isDecode(queries: number): boolean {
  return queries <= 2;
}

/** At most `maxSplits` splits of a capacity, none under 512 keys; each begins at a multiple of `align` keys. */
export function splitKeys(capacity: number, maxSplits: number, align: number): Splits {
  const each = Math.max(MIN_SPLIT_KEYS, ceilDiv(ceilDiv(capacity, maxSplits), align) * align);
  return { splits: Math.max(1, ceilDiv(capacity, each)), splitKeys: each };
}

/** The dispatch of a prefill kernel over tiles of {@link attentionQueryTile} queries. `dim`: the larger of D and Dv. */
export function prefillDispatch(
  kernel: "tiled" | "lanes",
  { parts, bindings, params }: Addressing,
  {
    facts,
    dim,
    tileSize,
    workgroups,
  }: { facts: GpuFacts; dim: number; tileSize: number; workgroups: Dispatch["workgroups"] },
): Dispatch {
  const variant: KernelVariant =
    kernel === "tiled"
      ? { ...link(TILED, ...parts), constants: { KEYS: dim <= 64 ? 4 : 2, COLUMNS: dim <= 32 ? 1 : dim <= 64 ? 2 : 4 } }
      : { ...link(LANES, ...parts, blockPart(facts)), overrides: { WORKGROUP_SIZE: tileSize / 2 } };
  return { kernel: variant, bindings, params, workgroups };
}

/** Queries of one workgroup of a kernel that the caller's tiles do not bind. */
export function tileSizeOf(kernel: "tiled" | "lanes", facts: GpuFacts): number {
  if (kernel === "tiled") return TILED_QUERIES;
  return facts.software ? SOFTWARE_DENSE_QUERIES : TILED_QUERIES;
}

/** Sizes that {@link lowerDecode} needs. */
export interface DecodeSizes extends Splits {
  readonly heads: number;
  readonly kvHeads: number;
  /** Dv, a multiple of 4. */
  readonly valueDim: number;
  readonly rows: number;
  /** Longest key length at a replay. */
  readonly longest: (dims: Dims) => number;
}

/** Dispatches split-key attention of single rows; with one split there is nothing to combine. */
export function lowerDecode({ facts, temp, dispatch }: LowerContext, addressing: Addressing, sizes: DecodeSizes): void {
  const { heads, kvHeads, valueDim, rows, splits, splitKeys: each, longest } = sizes;
  const { parts, bindings } = addressing;
  const params = { ...addressing.params, splits, split_keys: each };
  const { shared, kernel } = decodeKernel(facts, parts, heads / kvHeads, valueDim);
  const groups = kvHeads * ceilDiv(heads / kvHeads, shared);
  if (splits === 1) {
    dispatch({ kernel: kernel({ parts: [WHOLE] }), bindings, params, workgroups: [groups, 1, rows] });
    return;
  }
  const share = {
    shares: temp("shares", [rows, heads, splits, valueDim], "f32"),
    share_stats: temp("share_stats", [rows, heads, splits, 2], "f32"),
  };
  dispatch({
    kernel: kernel({ parts: [SHARE] }),
    bindings: { ...bindings, ...share },
    params,
    workgroups: (dims) => [groups, Math.min(splits, ceilDiv(longest(dims), each)), rows],
  });
  dispatch({
    kernel: { ...link(COMBINE, ...parts), overrides: { WORKGROUP_SIZE: COMBINE_SIZE } },
    bindings: { ...bindings, ...share },
    params,
    workgroups: [ceilDiv((heads * valueDim) / 4, COMBINE_SIZE), 1, rows],
  });
}

/** The decode kernel of a device, up to where its results go, and the query heads that one of its workgroups takes together. */
function decodeKernel(
  facts: GpuFacts,
  parts: readonly LinkedPart[],
  group: number,
  valueDim: number,
): { readonly shared: number; readonly kernel: (end: LinkedPart) => KernelVariant } {
  const lanes = facts.software ? lanesPart(facts) : undefined;
  if (!lanes) {
    const shared = headsPerWorkgroup(group);
    return {
      shared,
      kernel: (end) => ({
        ...link(DECODE, ...parts, looseReducePart(facts), end),
        constants: { HEADS: shared },
        overrides: { WORKGROUP_SIZE: DECODE_SIZE },
      }),
    };
  }
  const columns = 2 ** Math.ceil(Math.log2(Math.max(2, ceilDiv(valueDim / 4, facts.subgroupMin))));
  const shared = Math.min(headsPerWorkgroup(group), Math.max(1, LANE_TOTALS / columns));
  return {
    shared,
    kernel: (end) => ({
      ...link(DECODE_LANES, ...parts, lanes, end),
      constants: { HEADS: shared, VALUE_COLUMNS: columns },
    }),
  };
}

/** Query heads that one decode workgroup takes together: a power of two, so that few pipelines serve every model. */
function headsPerWorkgroup(group: number): number {
  if (group >= 5) return 8;
  return group >= 3 ? 4 : group;
}
