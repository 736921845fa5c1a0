import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import {
  type LowerContext,
  type OpDef,
  type OpNode,
  only,
  type Recorder,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { elemPart, layoutIn, need, rowsAndColumns } from "./rows.ts";
import { isWeightDType, weightPart, weightScalarPart } from "./weights.ts";
import backwardCode from "../../shaders/embedding_backward.wgsl";
import code from "../../shaders/embedding.wgsl";
import fillCode from "../../shaders/fill.wgsl";

const KERNEL = shader("embedding.wgsl", code);
const BACKWARD_KERNEL = shader("embedding_backward.wgsl", backwardCode);
const FILL_KERNEL = shader("fill.wgsl", fillCode);

/** Where the ids come from and what the rows are multiplied with. */
export interface EmbeddingAttrs {
  /** Multiplies each row; Gemma's √C. Default 1. */
  readonly scale?: number;
  /** Added to each id; OPT's positions start at 2. Default 0. */
  readonly shift?: number;
}

interface BackwardAttrs extends EmbeddingAttrs {
  readonly vocabulary: number;
}

export const EMBEDDING: OpDef<EmbeddingAttrs> = {
  name: "embedding",
  infer({ ids, table }) {
    const rows = checkIds("embedding", ids);
    const [, columns] = table?.shape ?? [];
    if (table?.shape.length !== 2 || columns === undefined || !isWeightDType(table.dtype)) {
      throw shapeError(
        "embedding",
        "table must be [V, C] f32, f16 or packed",
        table ? formatTensor("table", table) : "nothing",
      );
    }
    if (table.dtype !== "f32" && columns % 4 !== 0) {
      const mend = "Load the table as f32.";
      throw shapeError(
        "embedding",
        "C must be a multiple of 4 where the table is not f32",
        formatTensor("table", table),
        mend,
      );
    }
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower(node, context) {
    const table = need(node.inputs, "table");
    const [vocabulary, width] = table.shape as [number, number];
    const elem = elemPart(width);
    const columns = width / elem.width;
    const rows = need(node.inputs, "ids").shape[0] as number;
    context.parts(table).forEach(({ rowStart, rows: tableRows, dtype }, part) => {
      const weight = elem.width === 1 ? weightScalarPart() : weightPart(dtype, context.facts);
      context.dispatch({
        kernel: { kernel: KERNEL, parts: [elem.part, ...weight.parts], enable: weight.enable },
        bindings: { ids: need(node.inputs, "ids"), weight: { value: table, part }, out: only(node.outputs) },
        params: { rows, columns, ...idParams(node), row_start: rowStart, table_rows: tableRows, vocabulary },
        workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
      });
    });
  },
  backward(rec, { inputs, attrs }, [dout], needs): Record<string, Value> {
    if (!dout || !needs.has("table")) return {};
    const vocabulary = need(inputs, "table").shape[0] as number;
    return { table: only(rec.record(EMBEDDING_BACKWARD, { ids: inputs["ids"], dout }, { ...attrs, vocabulary })) };
  },
};

/** ids `[N]`, dout `[N, C]` → dtable `[V, C]`: for each id the sum of its rows, in their order; 0 for ids that are absent. */
export const EMBEDDING_BACKWARD: OpDef<BackwardAttrs> = {
  name: "embedding_backward",
  infer({ ids, dout }, { vocabulary }) {
    const rows = checkIds("embedding_backward", ids);
    const grad = rowsAndColumns("embedding_backward", "dout", dout);
    if (grad.rows !== rows) {
      throw shapeError(
        "embedding_backward",
        `dout must be [N, C] with N = ${rows}`,
        formatTensor("dout", need({ dout }, "dout")),
      );
    }
    return [{ shape: [vocabulary, grad.columns], dtype: "f32" }];
  },
  lower(node, context) {
    const dtable = only(node.outputs);
    context.dispatch({
      kernel: { kernel: FILL_KERNEL },
      bindings: { out: dtable },
      params: { n: numel(dtable.shape), value: 0 },
      workgroups: spreadWorkgroups(ceilDiv(numel(dtable.shape), 64)),
    });
    lowerBackward(node, context);
  },
};

function lowerBackward(node: OpNode<BackwardAttrs>, context: LowerContext): void {
  const [ids, dout] = [need(node.inputs, "ids"), need(node.inputs, "dout")];
  const { rows, columns } = rowsAndColumns("embedding_backward", "dout", dout);
  const elem = elemPart(columns, ...Object.values(layoutIn(dout, 1)));
  const { offset, rowStride } = layoutIn(dout, elem.width);
  const width = columns / elem.width;
  context.dispatch({
    kernel: { kernel: BACKWARD_KERNEL, parts: [elem.part] },
    bindings: { ids, dout, dtable: only(node.outputs) },
    params: {
      rows,
      columns: width,
      ...idParams(node),
      row_start: 0,
      table_rows: node.attrs.vocabulary,
      grad_offset: offset,
      grad_stride: rowStride,
    },
    workgroups: [ceilDiv(width, 64), rows],
  });
}

function idParams({ inputs, attrs }: OpNode<EmbeddingAttrs>): Record<string, number> {
  const isRowTable = need(inputs, "ids").shape.length === 2;
  return {
    id_stride: isRowTable ? 2 : 1,
    id_offset: isRowTable ? 1 : 0,
    skip_inactive: isRowTable ? 1 : 0,
    id_shift: attrs.shift ?? 0,
    scale: attrs.scale ?? 1,
  };
}

function checkIds(op: string, ids: Value | undefined): number {
  const [rows, pair] = ids?.shape ?? [];
  const rank = ids?.shape.length;
  if (ids?.dtype !== "u32" || rows === undefined || !(rank === 1 || (rank === 2 && pair === 2))) {
    throw shapeError(op, "ids must be [N] u32 or a row table [N, 2] u32", ids ? formatTensor("ids", ids) : "nothing");
  }
  return rows;
}

/**
 * `out[n] = table[ids[n] + shift] · scale`; ids that are not in the table, and inactive rows, give 0.
 *
 * ids `[N]` u32, table `[V, C]` f32, f16 or packed, in any number of row parts → `[N, C]` f32. Throws `SHAPE`.
 */
export function embedding(rec: Recorder, ids: Value, table: Value, options: EmbeddingAttrs = {}): Value {
  return only(rec.record(EMBEDDING, { ids, table }, options));
}

/**
 * `out[n] = table[position(n) + shift]`, the positions being those of the row table, so that a decode step needs no host.
 *
 * rowTable `[N, 2]` u32 (slot, position), table `[P, C]` f32 or f16 → `[N, C]` f32, 0 in inactive rows. Throws `SHAPE`.
 */
export function positionEmbedding(rec: Recorder, rowTable: Value, table: Value, options: EmbeddingAttrs = {}): Value {
  return only(rec.record(EMBEDDING, { ids: rowTable, table }, options));
}
