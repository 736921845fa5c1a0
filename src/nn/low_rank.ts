import { ADD } from "../ops/add.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import { dropout } from "../ops/dropout.ts";
import { linear } from "../ops/linear.ts";
import { only, type Recorder, type Value } from "../ops/op.ts";
import { override } from "../ops/override.ts";
import { sliceColumns } from "../ops/slice_columns.ts";
import type { LinearLayer } from "../program/record.ts";

/** A low-rank path beside some columns of a linear layer's result. */
export interface LowRankPath {
  /** First column of the result that it adds to. */
  readonly start: number;
  readonly columns: number;
  /** `[r, K]`. */
  readonly a: Value;
  /** `[columns, r]`. */
  readonly b: Value;
  readonly scale: number;
  /** Of the layer's own columns, before the path is added: `factor · out + shift`, both `[columns]`. */
  readonly change?: { readonly factor: Value; readonly shift: Value } | undefined;
  /** Of the path's own input; absent where nothing is dropped. */
  readonly dropout?: { readonly rate: number; readonly rng: Value };
}

/**
 * `out[:, columns] + scale · dropout(x) · aᵀ · bᵀ` for each path (Hu et al. 2021, §4.1); paths in the order of their columns, which don't
 * overlap. x `[N, K]`, out `[N, M]` f32 → `[N, M]` f32. Where a path covers all columns nothing is copied.
 */
export function addLowRank(rec: Recorder, { x, out }: LinearLayer, paths: readonly LowRankPath[]): Value {
  const width = out.shape[1] ?? 0;
  const pieces: Value[] = [];
  let at = 0;
  const upTo = (end: number): void => {
    if (end > at) pieces.push(sliceColumns(rec, out, at, end - at));
    at = end;
  };
  for (const { start, columns, a, b, scale, change, dropout: drop } of paths) {
    upTo(start);
    const input = drop && drop.rate > 0 ? dropout(rec, x, drop) : x;
    const low = linear(rec, linear(rec, input, a), b); // [N, columns]
    const own = columns === width ? out : sliceColumns(rec, out, start, columns);
    const changed = change ? override(rec, own, change) : own;
    pieces.push(only(rec.record(ADD, { a: changed, b: low }, { aFactor: 1, bFactor: scale })));
    at = start + columns;
  }
  upTo(width);
  const [whole] = pieces;
  return pieces.length === 1 && whole ? whole : concatColumns(rec, pieces);
}
