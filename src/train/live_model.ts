import type { Tensor } from "../gpu/tensor.ts";
import type { Device } from "../gpu/device.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { Encoder } from "../models/encoder_family.ts";
import type { Decoder, EncoderDecoder, WeightTree } from "../models/family.ts";
import type { LoadedWeights } from "../models/load.ts";
import { meanEmbedding } from "../models/sentence_embedding.ts";
import type { EncoderModel } from "../tasks/encoder_model.ts";
import { readGenerationDefaults } from "../tasks/generation_options.ts";
import type { Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import type { TextModel } from "../tasks/text_model.ts";
import type { Tokenizers } from "../text/open_tokenizers.ts";
import { ruledTensors } from "./parameters.ts";

/** What is trained, as the forward pass of its kind knows it. */
export type TrainedNetwork =
  | { readonly kind: "decoder"; readonly model: Decoder }
  | { readonly kind: "encoder-decoder"; readonly model: EncoderDecoder }
  | { readonly kind: "encoder"; readonly model: Encoder };

/** What a model over weights that are being trained is made of. */
export interface LiveParts {
  /** Of the network's rules. */
  readonly tree: WeightTree<Tensor>;
  readonly source: string;
  readonly tokenizers: Tokenizers;
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig?: Readonly<Record<string, unknown>> | undefined;
  /** Adds an adapter that is trained beside the weights. */
  readonly onRecord?: ((rec: ProgramRecorder) => void) | undefined;
}

/** The models that can be run while they are trained. */
export type LiveModel = TextModel | Seq2SeqModel | EncoderModel;

/**
 * The model that is trained, over the very weights: no copy of them is made, and disposing it leaves them. What it computes is what they are
 * at the time; keys and values that a session keeps from before an update stay those of then.
 */
export async function liveModel(device: Device, network: TrainedNetwork, parts: LiveParts): Promise<LiveModel> {
  const { tree, source, tokenizers, config, generationConfig, onRecord } = parts;
  const sized = ruledTensors(network.model.rules, tree);
  const bytes = sized.reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0);
  const weights: LoadedWeights = { tree, dtype: "f32", bytes, ...(onRecord ? { onRecord } : {}), dispose: () => {} };
  // Each kind of model is loaded when it is asked for, as by an engine.
  switch (network.kind) {
    case "decoder": {
      const { TextModel } = await import("../tasks/text_model.ts");
      const defaults = readGenerationDefaults(config, generationConfig);
      return TextModel.over(device, network.model, weights, { source, tokenizer: tokenizers.source, defaults });
    }
    case "encoder-decoder": {
      const { Seq2SeqModel } = await import("../tasks/seq2seq_model.ts");
      return Seq2SeqModel.over(device, network.model, weights, {
        ...{ source, tokenizers },
        files: { config, generationConfig },
      });
    }
    case "encoder": {
      const { EncoderModel } = await import("../tasks/encoder_model.ts");
      const { model: encoder } = network;
      const sentence = meanEmbedding(encoder);
      const both = { ...weights, tree: { encoder: tree, sentence: [] } };
      return EncoderModel.over(device, { encoder, sentence, weights: both }, { source, tokenizer: tokenizers.source });
    }
  }
}
