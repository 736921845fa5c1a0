import { openSource } from "./sources/open_source.ts";
import { createEngineWith, type Engine, type EngineOptions } from "./tasks/engine.ts";

/**
 * An engine on this page's WebGPU, or on the caller's own device. Throws `NO_WEBGPU`, `NO_ADAPTER` or `UNSUPPORTED`.
 *
 * @example
 * const engine = await createEngine();
 * const model = await engine.load("hf:owner/name");
 * for await (const piece of model.generate("Once upon a time")) output.append(piece);
 */
export function createEngine(options: EngineOptions = {}): Promise<Engine> {
  return createEngineWith(options, openSource, async () => (await import("./gpu/tune_store_page.ts")).pageTuneStore());
}

export { HeedError, type HeedErrorCode, isHeedError } from "./core/errors.ts";
export type { Source, SourceFile } from "./core/source.ts";
export type { ActivationName } from "./ops/activation_parts.ts";
export { type AdapterFacts, Device, type GpuFacts, type RequestDeviceOptions } from "./gpu/device.ts";
export type { Speed } from "./gpu/probe.ts";
export { Tensor, type TensorOptions } from "./gpu/tensor.ts";
export type { TuneReport, TuneResult } from "./gpu/tune.ts";
export { availableTiers, type Tier, TIERS } from "./gpu/tiers.ts";
export type { AttentionRequest, AttentionSummary, CapturedAttention } from "./inspect/attention_request.ts";
export type { NamedValue, RunAttentionRequest, RunOptions, RunResult } from "./inspect/run.ts";
export type { HeadId, Patch, TapOptions, TappedValue } from "./inspect/taps.ts";
export type { DecoderFacts, EncoderDecoderFacts } from "./models/family.ts";
export type { LoadProgress } from "./models/load.ts";
export type { PlanDescription } from "./program/describe.ts";
export type { ArrayTensor, DirectCall, DirectOptions, OpInput } from "./program/direct.ts";
export type { HostArray } from "./program/host_array.ts";
export type { DispatchTime } from "./program/profile.ts";
export { clearDownloads, downloadUsage, type DownloadUsage } from "./sources/downloads.ts";
export { openSource, type OpenSourceOptions, type SourceSpec } from "./sources/open_source.ts";
export { shippedModel, type ShippedTask } from "./sources/shipped.ts";
export type { AttentionStep } from "./tasks/attention_watch.ts";
export type { CacheOptions } from "./tasks/decoder_runtime.ts";
export { type AttentionCallOptions, alibiSlopes, type ByteMask, type PerBatch } from "./tasks/direct_attention.ts";
export type { CapturedSequence, CaptureRequest } from "./tasks/direct_capture.ts";
export type * from "./tasks/direct_ops.ts";
export type * from "./tasks/direct_options.ts";
export type { AnyModel, Engine, EngineLoadEncoderOptions, EngineLoadOptions, EngineOptions } from "./tasks/engine.ts";
export type { EncoderLogits, EncoderModel, LoadEncoderOptions } from "./tasks/encoder_model.ts";
export type { EncoderCallOptions, EncoderProgress } from "./tasks/encoder_runtime.ts";
export type { EncoderInput, TruncateOptions, WindowOptions } from "./tasks/encoder_text.ts";
export type { Answer, AnswerOptions, AnswerSpan, Question } from "./tasks/answer.ts";
export type { Classification, ClassifyOptions, LabelScore } from "./tasks/classify.ts";
export type { Embedding, EmbedOptions } from "./tasks/embed.ts";
export type { Filled, Filler, FillOptions } from "./tasks/fill.ts";
export type { Entity, LabelAggregation, LabelOptions } from "./tasks/label.ts";
export type {
  SpeechModel,
  TranscribeAttention,
  TranscribeOptions,
  TranscribeProgress,
} from "./tasks/speech_model.ts";
export type { SpeechInput } from "./tasks/speech_sound.ts";
export type { Transcript, TranscriptSegment } from "./tasks/speech_transcript.ts";
export type { SpeechPromptOptions } from "./tasks/speech_prompt.ts";
export type { EncoderFacts } from "./models/encoder_family.ts";
export type { SentencePooling } from "./models/sentence_embedding.ts";
export type { MonoSound } from "./formats/wav.ts";
export type { GenerationStep, StepOptions, StepToken } from "./tasks/generation_steps.ts";
export type {
  Seq2SeqGenerateOptions,
  Seq2SeqModel,
  SummarizeOptions,
  TranslateOptions,
  ValuesOptions,
} from "./tasks/seq2seq_model.ts";
export type { Languages } from "./tasks/seq2seq_tasks.ts";
export type { ChatOptions, Conversation } from "./tasks/chat.ts";
export type { Finish, GeneratedSequence, GenerationResult, GenerationStats } from "./tasks/generation.ts";
export type { GenerateOptions, GenerationAttention } from "./tasks/generation_options.ts";
export type { ManyOptions } from "./tasks/many.ts";
export type { GeneratedLogprob, TokenLogprob } from "./tasks/logprobs.ts";
export type { SelfTestOptions, SelfTestReport, VariantResult } from "./tasks/self_test.ts";
export type { Generation, Session } from "./tasks/session.ts";
export type { LoadOptions, TextModel } from "./tasks/text_model.ts";
export type { ChatMessage } from "./text/chat_template.ts";
export type { Tokenizer } from "./text/tokenizer.ts";
