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
