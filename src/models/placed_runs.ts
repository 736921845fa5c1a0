import type { WeightRule } from "./family.ts";

/**
 * Where the bytes `data`, which a tensor of `sizeBytes` has from byte `at` on, go: as they are, or for rows
 * `[heads, parts, D]` to their places in `[parts, heads, D]`.
 */
export function* placedRuns(
  perHead: WeightRule["perHead"],
  sizeBytes: number,
  at: number,
  data: Uint8Array<ArrayBuffer>,
): Generator<{ readonly at: number; readonly data: Uint8Array<ArrayBuffer> }> {
  if (!perHead) {
    yield { at, data };
    return;
  }
  const { heads, parts } = perHead;
  const block = sizeBytes / (heads * parts);
  for (let done = 0; done < data.length; ) {
    const index = Math.floor((at + done) / block);
    const within = (at + done) % block;
    const count = Math.min(block - within, data.length - done);
    const place = (index % parts) * heads + Math.floor(index / parts);
    yield { at: place * block + within, data: data.subarray(done, done + count) };
    done += count;
  }
}

/** A checkpoint's rows `[heads, parts, D]` as the weights' `[parts, heads, D]`; as they are where nothing is said. */
export function placedRows(data: Float32Array<ArrayBuffer>, perHead: WeightRule["perHead"]): Float32Array<ArrayBuffer> {
  if (!perHead) return data;
  const out = new Float32Array(data.length);
  const bytes = new Uint8Array(out.buffer);
  const own = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (const run of placedRuns(perHead, bytes.length, 0, own)) bytes.set(run.data, run.at);
  return out;
}

/** The reverse of {@link placedRows}: the order that `heads` and `parts` have in the weights is that of a checkpoint with the two exchanged. */
export function publishedRows(
  data: Float32Array<ArrayBuffer>,
  perHead: WeightRule["perHead"],
): Float32Array<ArrayBuffer> {
  return placedRows(data, perHead && { heads: perHead.parts, parts: perHead.heads });
}

/** A matrix `[rows, columns]` turned to `[columns, rows]`. */
export function transposed(data: Float32Array<ArrayBuffer>, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c] as number;
  }
  return out;
}
