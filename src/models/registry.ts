import { HeedError } from "../core/errors.ts";
import type { Decoder, DecoderFamily, EncoderDecoder, EncoderDecoderFamily } from "./family.ts";
import type { Encoder, EncoderFamily } from "./encoder_family.ts";
import { albert } from "./albert/model.ts";
import { bert } from "./bert/model.ts";
import { bart } from "./bart/model.ts";
import { bloom } from "./bloom/model.ts";
import { distilbert } from "./distilbert/model.ts";
import { gemma2 } from "./gemma2/model.ts";
import { gemma3 } from "./gemma3/model.ts";
import { glm } from "./glm/model.ts";
import { gpt2 } from "./gpt2/model.ts";
import { gptNeox } from "./gpt_neox/model.ts";
import { llama } from "./llama/model.ts";
import { marian } from "./marian/model.ts";
import { mistral } from "./mistral/model.ts";
import { moonshine } from "./moonshine/model.ts";
import { unsupportedArchitecture } from "./nearest.ts";
import { opt } from "./opt/model.ts";
import { phi3 } from "./phi3/model.ts";
import { qwen2 } from "./qwen2/model.ts";
import { qwen3 } from "./qwen3/model.ts";
import { roberta } from "./roberta/model.ts";
import { t5 } from "./t5/model.ts";
import type { Speech, SpeechFamily } from "./speech_family.ts";
import { transformer } from "./transformer/model.ts";
import { whisper } from "./whisper/model.ts";

/** Every family of causal decoders: a new one is a folder, a test and a line here. */
export const DECODERS: readonly DecoderFamily[] = [
  ...[bloom, gemma2, gemma3, glm, gpt2, gptNeox, llama, mistral, opt, phi3, qwen2, qwen3],
];

/** Every family of encoder–decoders. */
export const ENCODER_DECODERS: readonly EncoderDecoderFamily[] = [bart, marian, t5, transformer];

/** Every family of encoders. */
const ENCODERS: readonly EncoderFamily[] = [albert, bert, distilbert, roberta];

/** Every family that turns speech into text. */
const SPEECH: readonly SpeechFamily[] = [moonshine, whisper];

/** What a config.json describes. */
export type OpenedModel =
  | { readonly kind: "encoder"; readonly model: Encoder }
  | { readonly kind: "speech"; readonly model: Speech }
  | { readonly kind: "decoder"; readonly model: Decoder }
  | { readonly kind: "encoder-decoder"; readonly model: EncoderDecoder };

/** Opens config.json with the family that its `model_type` names. Throws `UNSUPPORTED` naming the families there are. */
export function openModel(config: Readonly<Record<string, unknown>>): OpenedModel {
  const decoder = find(DECODERS, config);
  if (decoder) return { kind: "decoder", model: decoder.open(config) };
  const encoderDecoder = find(ENCODER_DECODERS, config);
  if (encoderDecoder) return { kind: "encoder-decoder", model: encoderDecoder.open(config) };
  const encoder = find(ENCODERS, config);
  if (encoder) return { kind: "encoder", model: encoder.open(config) };
  const speech = find(SPEECH, config);
  if (speech) return { kind: "speech", model: speech.open(config) };
  const types = (families: readonly { readonly modelTypes: readonly string[] }[]) =>
    families.flatMap(({ modelTypes }) => modelTypes);
  throw unsupportedArchitecture(config, [
    { modelTypes: types(DECODERS), architecture: /ForCausalLM$|LMHeadModel$/ },
    { modelTypes: types(SPEECH), architecture: /Speech|CTC$|Audio/ },
    { modelTypes: types(ENCODER_DECODERS), architecture: /ForConditionalGeneration$|MTModel$/ },
    { modelTypes: types(ENCODERS), architecture: /For(MaskedLM|\w+Classification|QuestionAnswering|PreTraining)$/ },
  ]);
}

/** Heads of other kinds on a decoder, whose weights are then not those of a language model. */
const OTHER_HEAD =
  /For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|AudioClassification)$/;

/** Refuses a checkpoint whose head tells classes or answers where words are to be written. Throws `UNSUPPORTED`. */
function checkHead(kind: string, { architectures }: Readonly<Record<string, unknown>>): void {
  const [name] = Array.isArray(architectures) ? (architectures as unknown[]) : [];
  if (typeof name !== "string" || !OTHER_HEAD.test(name)) return;
  throw new HeedError(
    "UNSUPPORTED",
    `model: ${kind} runs with the head that writes words; ${name} (architectures in config.json) has another one. Take a checkpoint for text, or an encoder such as BERT for classes, labels and answers.`,
  );
}

/** How messages call the kinds. */
const KIND_WORDS: Readonly<Record<OpenedModel["kind"], string>> = {
  decoder: "a decoder",
  encoder: "an encoder",
  "encoder-decoder": "an encoder–decoder",
  speech: "a model of speech",
};

/** The calls and commands that a kind of model is for. */
const CALLS: Readonly<Record<OpenedModel["kind"], string>> = {
  decoder: "generate or chat",
  encoder: "answer, classify, label, fill or embed, as its head allows",
  "encoder-decoder": "translate, summarize or generate",
  speech: "transcribe",
};

/** Like {@link openModel}, for those who need a causal decoder. Throws `UNSUPPORTED` for any other kind. */
export function openDecoder(config: Readonly<Record<string, unknown>>): Decoder {
  const opened = openModel(config);
  if (opened.kind === "decoder") {
    checkHead(KIND_WORDS[opened.kind], config);
    return opened.model;
  }
  throw new HeedError(
    "UNSUPPORTED",
    `model: a causal decoder is needed here; ${opened.model.family} is ${KIND_WORDS[opened.kind]}. Use ${CALLS[opened.kind]}.`,
  );
}

/** Like {@link openModel}, for those who need an encoder. Throws `UNSUPPORTED` for any other kind. */
export function openEncoder(config: Readonly<Record<string, unknown>>): Encoder {
  const opened = openModel(config);
  if (opened.kind === "encoder") return opened.model;
  throw new HeedError(
    "UNSUPPORTED",
    `model: an encoder such as BERT is needed here; ${opened.model.family} is ${KIND_WORDS[opened.kind]}. Use ${CALLS[opened.kind]}.`,
  );
}

/** Like {@link openModel}, for those who need a model of speech. Throws `UNSUPPORTED` for any other kind. */
export function openSpeech(config: Readonly<Record<string, unknown>>): Speech {
  const opened = openModel(config);
  if (opened.kind === "speech") {
    checkHead(KIND_WORDS[opened.kind], config);
    return opened.model;
  }
  throw new HeedError(
    "UNSUPPORTED",
    `model: a model of speech such as Whisper or Moonshine is needed here; ${opened.model.family} is ${KIND_WORDS[opened.kind]}. Use ${CALLS[opened.kind]}.`,
  );
}

/** Like {@link openModel}, for those who need an encoder–decoder. Throws `UNSUPPORTED` for any other kind. */
export function openEncoderDecoder(config: Readonly<Record<string, unknown>>): EncoderDecoder {
  const opened = openModel(config);
  if (opened.kind === "encoder-decoder") {
    checkHead(KIND_WORDS[opened.kind], config);
    return opened.model;
  }
  throw new HeedError(
    "UNSUPPORTED",
    `model: an encoder–decoder such as Marian or T5 is needed here; ${opened.model.family} is ${KIND_WORDS[opened.kind]}. Use ${CALLS[opened.kind]}.`,
  );
}

function find<F extends { readonly modelTypes: readonly string[] }>(
  families: readonly F[],
  { model_type: type }: Readonly<Record<string, unknown>>,
): F | undefined {
  return families.find((f) => typeof type === "string" && f.modelTypes.includes(type));
}
