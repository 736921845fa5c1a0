/** A checkpoint's tensor in f32. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The config.json under which `transformers` knows a 2017 transformer of Heed's own: Marian's, whose model is the same but for the order
 * of its dimensions (its positions have the sines first, then the cosines) and for biases, which {@link asMarian} makes zero.
 */
export function marianConfig(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { attention_bias: _, ...fields } = config;
  return {
    ...{ activation_function: "relu", decoder_vocab_size: fields["vocab_size"], forced_eos_token_id: null },
    ...fields,
    ...{ model_type: "marian", architectures: ["MarianMTModel"], is_encoder_decoder: true },
    ...{ scale_embedding: true, static_position_embeddings: true, share_encoder_decoder_embeddings: true },
  };
}

/** A tensor of a 2017 transformer as Marian's tensors: itself with its dimensions in Marian's order, and the biases that go with it there. */
export function asMarian(
  tensor: NamedTensor,
  { attention_bias: biased }: Readonly<Record<string, unknown>>,
): NamedTensor[] {
  const name = `model.${tensor.name.replace(/^model\./, "")}`;
  const [rows = 1, columns = 1] = tensor.shape;
  const zeros = (of: string, ...shape: number[]): NamedTensor => ({
    ...{ name: of, shape, data: new Float32Array(shape.reduce((a, b) => a * b)) },
  });
  if (name === "model.shared.weight") {
    return [{ ...tensor, name, data: sinesFirst(tensor.data, columns) }, zeros("final_logits_bias", 1, rows)];
  }
  const [, layer = "", kind = ""] = /([^.]+)\.(weight|bias)$/.exec(name) ?? [];
  const isProjection = /^[qkv]_proj$/.test(layer);
  const writesWidth = layer === "out_proj" || layer === "fc2" || layer.endsWith("norm");
  let { data } = tensor;
  // Vectors and the rows of matrices that write the width C, and the columns of those that read it.
  if (writesWidth)
    data = kind === "bias" || layer.endsWith("norm") ? sinesFirst(data, rows) : rowsSinesFirst(data, rows);
  else if (kind === "weight") data = sinesFirst(data, columns);
  const own = { ...tensor, name, data };
  const lacksBias = !biased && kind === "weight" && (isProjection || layer === "out_proj");
  return lacksBias ? [own, zeros(name.replace(/weight$/, "bias"), rows)] : [own];
}

/** Each row of `width` numbers with the even dimensions first, then the odd ones. */
function sinesFirst(data: Float32Array, width: number): Float32Array {
  const half = Math.ceil(width / 2);
  return data.map((_, i) => {
    const at = i % width;
    return data[i - at + (at < half ? 2 * at : 2 * (at - half) + 1)] as number;
  });
}

function rowsSinesFirst(data: Float32Array, rows: number): Float32Array {
  const [half, size] = [Math.ceil(rows / 2), data.length / rows];
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    const from = row < half ? 2 * row : 2 * (row - half) + 1;
    out.set(data.subarray(from * size, (from + 1) * size), row * size);
  }
  return out;
}
