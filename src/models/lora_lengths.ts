import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { ADD } from "../ops/add.ts";
import { embedding } from "../ops/embedding.ts";
import { linear } from "../ops/linear.ts";
import { only } from "../ops/op.ts";
import { rowMoments } from "../ops/row_moments.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { LoadedLayer } from "./lora_read.ts";

/** Elements of the rows whose lengths are computed at once. */
const CHUNK_ELEMENTS = 2 ** 22;

/** The length of each row of `W + scale · B · A`, on the GPU, whatever W is kept in → `[rows]`. */
export async function adaptedLengths(device: Device, layer: LoadedLayer): Promise<Float32Array<ArrayBuffer>> {
  const { module, a, b, scale } = layer;
  const { rows, columns, rowStart, weight } = module;
  const rank = a.length / columns;
  const chunk = Math.min(rows, Math.max(1, Math.floor(CHUNK_ELEMENTS / columns)));
  const turned = a.map((_, i) => a[(i % rank) * columns + Math.floor(i / rank)] ?? 0);
  const rec = new ProgramRecorder("adapted lengths");
  const right = Tensor.from(device, "lora_A turned", [columns, rank], "f32", turned); // [K, r]
  try {
    const ids = rec.input("rows", [chunk], "u32");
    const left = rec.input("lora_B", [chunk, rank], "f32");
    const own = embedding(rec, ids, rec.weight(weight)); // [n, K]
    const path = linear(rec, left, rec.weight(right)); // [n, K]
    const sum = only(rec.record(ADD, { a: own, b: path }, { aFactor: 1, bFactor: scale }));
    const { mean, rstd } = rowMoments(rec, sum, { eps: 0 });
    rec.output("mean", mean);
    rec.output("rstd", rstd);
    const planned = await plan(device, rec);
    try {
      const lengths = new Float32Array(rows);
      for (let start = 0; start < rows; start += chunk) {
        planned.write(
          "rows",
          Uint32Array.from({ length: chunk }, (_, i) => rowStart + Math.min(start + i, rows - 1)),
        );
        planned.write("lora_B", b.subarray(start * rank, (start + chunk) * rank));
        planned.replay();
        const [means, rstds] = [await readFloats(planned, "mean"), await readFloats(planned, "rstd")];
        for (let i = 0; i < Math.min(chunk, rows - start); i++) {
          const [m = 0, r = 0] = [means[i], rstds[i]];
          lengths[start + i] = Math.sqrt(columns * (1 / (r * r) + m * m));
        }
      }
      return lengths;
    } finally {
      planned.dispose();
    }
  } finally {
    right.dispose();
  }
}

async function readFloats(planned: { readOutput(name: string): Promise<ArrayBuffer> }, name: string) {
  return new Float32Array(await planned.readOutput(name));
}
