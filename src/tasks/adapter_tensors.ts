import { floatsOf } from "../models/lora_merge.ts";
import type { LinearModule } from "../models/lora.ts";
import type { LoadedTable, Replacement } from "../models/lora_read.ts";
import { placeStart, weightBytes, type WeightPlace } from "../models/weight_places.ts";
import type { Tensor } from "../gpu/tensor.ts";

/** Bytes of weights as they are without an adapter. */
type Originals = ReadonlyMap<Tensor, Uint8Array<ArrayBuffer>>;

/** What is added behind a head that reads the table of token embeddings. */
const HEAD_BIAS = /^(cls\.predictions\.bias|predictions\.bias|vocab_projector\.bias|final_logits_bias)$/;

/** The table of token embeddings that the head reads too, if it has no weight of its own. */
export function tiedTable(places: readonly WeightPlace[]): WeightPlace | undefined {
  if (places.some(({ name }) => /^(lm_head|embed_out)\.weight$/.test(name))) return undefined;
  const tables = places.filter(({ name }) =>
    /(^|\.)(wte|shared|embed_in|embed_tokens|word_embeddings)\.weight$/.test(name),
  );
  // The head belongs to the decoder, where encoder and decoder have tables of their own.
  return tables.find(({ name }) => /(^|\.)decoder\./.test(name)) ?? tables[0];
}

/** The bias of a linear layer as it is with an adapter that brings the given tensors, if the layer has one. */
export async function layerBias(
  { name, rows }: LinearModule,
  places: readonly WeightPlace[],
  replacements: readonly Replacement[],
  originals: Originals,
): Promise<Float32Array | undefined> {
  const own = [`${name}.bias`, `${name.replace(/\.decoder$/, "")}.bias`];
  const place = places.find((one) => own.includes(one.name) || (name === "lm_head" && HEAD_BIAS.test(one.name)));
  if (!place) return undefined;
  const { tensor } = place;
  const start = placeStart(place);
  const bytes = new Uint8Array(originals.get(tensor) ?? new Uint8Array(await tensor.read()));
  for (const own of replacements) if (own.tensor === tensor) bytes.set(own.bytes, own.start);
  return new Float32Array(bytes.buffer, start, rows);
}

/** A table of embeddings with an adapter's matrices added, for one in f32 or f16. */
export function adaptedTable(
  { place, a, b, scale }: LoadedTable,
  replacements: readonly Replacement[],
  originals: Originals,
): Replacement {
  const { tensor, rows } = place;
  const bytes = new Uint8Array(originals.get(tensor) ?? []);
  for (const own of replacements) if (own.tensor === tensor) bytes.set(own.bytes, own.start);
  const sum = floatsOf(bytes, tensor.dtype === "f16");
  const columns = sum.length / rows;
  const rank = a.length / rows;
  for (let row = 0; row < rows; row++) {
    for (let c = 0; c < columns; c++) {
      let path = 0;
      for (let i = 0; i < rank; i++) path += (b[c * rank + i] ?? 0) * (a[i * rows + row] ?? 0);
      const at = row * columns + c;
      sum[at] = (sum[at] ?? 0) + scale * path;
    }
  }
  return { tensor, start: 0, bytes: weightBytes(place, sum) };
}
