import { ceilDiv } from "../core/shape.ts";
import { checkKvRows, checkPool, type KvAppendInputs, kvPairVariant, PAGES_PART, poolParams } from "./kv_append.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { checkHeads, checkRopeTable, ROTATE_PART, type RopeAttrs } from "./rope.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import code from "../../shaders/rope_append.wgsl";

const KERNEL = shader("rope_append.wgsl", code);

/** Sizes of the rows, and which channels turn. */
export interface RopeAppendAttrs extends RopeAttrs {
  readonly kvHeads: number;
}

/** What {@link ropeAppend} reads and writes. */
export interface RopeAppendInputs extends KvAppendInputs {
  /** `[N, heads · headDim]` f32, or a view. */
  readonly q: Value;
  /** Angles, from `ropeTable()`. */
  readonly table: Value;
}

export const ROPE_APPEND: OpDef<RopeAppendAttrs> = {
  name: "rope_append",
  writes: ["kv"],
  infer(inputs, attrs) {
    const { rows, columns } = rowsAndColumns("rope_append", "q", inputs["q"]);
    checkHeads("rope_append", "q", need(inputs, "q"), attrs.heads, attrs);
    checkKvRows("rope_append", inputs, rows, attrs);
    checkPool("rope_append", inputs, rows, attrs);
    checkRopeTable("rope_append", inputs["table"], attrs);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch, facts }) {
    const [q, k, v, kv] = [need(inputs, "q"), need(inputs, "k"), need(inputs, "v"), need(inputs, "kv")];
    const table = need(inputs, "table");
    const rows = q.shape[0] as number;
    const { heads, kvHeads, headDim } = attrs;
    const pair = kvPairVariant(kv, facts);
    dispatch({
      kernel: { kernel: KERNEL, parts: [ROTATE_PART, PAGES_PART, ...(pair.parts ?? [])], enable: pair.enable },
      bindings: {
        q,
        k,
        v,
        cos_sin: table,
        row_table: need(inputs, "rowTable"),
        page_table: need(inputs, "pageTable"),
        q_out: only(outputs),
        kv,
      },
      params: {
        rows,
        heads,
        kv_heads: kvHeads,
        head_dim: headDim,
        rotary: attrs.rotaryDim,
        interleaved: attrs.interleaved ? 1 : 0,
        max_positions: table.shape[0] as number,
        q_offset: layoutIn(q, 1).offset,
        q_stride: layoutIn(q, 1).rowStride,
        k_offset: layoutIn(k, 1).offset,
        k_stride: layoutIn(k, 1).rowStride,
        v_offset: layoutIn(v, 1).offset,
        v_stride: layoutIn(v, 1).rowStride,
        ...poolParams(inputs),
      },
      workgroups: spreadWorkgroups(ceilDiv((rows * (heads + 2 * kvHeads) * headDim) / 2, 64)),
    });
  },
};

/**
 * `rope(q)`, and `kvAppend` of `rope(k)` and v, in one dispatch; equal to those three.
 *
 * Shapes as in {@link RopeAppendInputs} → the turned q `[N, heads · headDim]` f32. Throws `SHAPE`.
 */
export function ropeAppend(rec: Recorder, inputs: RopeAppendInputs, attrs: RopeAppendAttrs): Value {
  return only(rec.record(ROPE_APPEND, { ...inputs }, attrs));
}
