import { type EncoderModel, type Engine, HeedError, type Seq2SeqModel, type TextModel } from "../../src/index.ts";
import {
  type Finetuning,
  type FinetuningOptions,
  openFinetuning,
  openTraining,
  type TrainingProgress,
} from "../../src/train/index.ts";
import type { NewModel, TaughtAttention, TaughtPair, TeachRequest } from "../protocol.ts";
import { layerWeights, look } from "./look.ts";
import type { Models } from "./models.ts";
import { tokenTexts } from "./token_text.ts";

/** Tokens of a sample, and of the text whose attention is shown. */
const SAMPLE_TOKENS = 120;
const LOOKED_AT = 48;
const TRANSLATED_TOKENS = 48;
/** Shorter texts are learnt whole: what would be held out says nothing. */
const HELD_OUT_FROM = 2000;
/** The same of lines, of which then each tenth is held out. */
const HELD_OUT_LINES = 400;
/** Tokens of a sentence or a text at most, whatever the model takes. */
const MOST_TOKENS = 128;

type Files = Iterable<readonly [string, readonly Uint8Array[] | string]>;

/** A training that is open, and what its model says between updates. */
export interface Run extends AsyncIterable<TrainingProgress> {
  readonly request: TeachRequest;
  /** The name of the model that an adapter is trained for; undefined where none is. */
  readonly base: string | undefined;
  stepsDone(): number;
  /** What the model makes of the request's prompt now. */
  sample(): Promise<string>;
  /** What it looks at in doing so. */
  attention(): Promise<TaughtAttention>;
  files(): Promise<Files>;
  adapterFiles(base: string): Promise<Files>;
  dispose(): Promise<void>;
}

/** Opens what a request asks for: a new model, or the model of a slot, loaded anew so that the one in use stays as it is. */
export async function openRun(engine: Engine, models: Models, request: TeachRequest): Promise<Run> {
  const { what } = request;
  if (what.kind === "new") return begun(engine, request, what);
  if (what.slot === "text") return tunedWriter(engine, models, request);
  return what.slot === "translator" ? tunedTranslator(engine, models, request) : tunedReader(engine, models, request);
}

/** A model from zero. */
async function begun(engine: Engine, request: TeachRequest, sizes: NewModel): Promise<Run> {
  const work = await openTraining(engine, recipeOf(request, sizes), { readText: async () => request.text });
  const model = await work.model();
  return {
    ...{ request, base: undefined, [Symbol.asyncIterator]: () => work[Symbol.asyncIterator]() },
    stepsDone: () => work.trainer.stepsDone,
    sample: () => continued(model, request),
    attention: () => lookedAt(model, request),
    files: () => work.files({ dtype: "f32" }),
    adapterFiles: () => Promise.resolve([]),
    dispose: () => work.dispose(),
  };
}

async function tunedWriter(engine: Engine, models: Models, request: TeachRequest): Promise<Run> {
  const { text, steps } = request;
  const length = Math.min(request.length, models.get("text").contextLength);
  const cut = text.length < HELD_OUT_FROM ? text.length : Math.floor(0.9 * text.length);
  const held = text.slice(cut);
  const work = await openFinetuning(
    engine,
    models.specOf("text"),
    { task: "lm", texts: [text.slice(0, cut)] },
    {
      ...optionsOf(request, length),
      ...(held === "" ? {} : { heldOut: { task: "lm", texts: [held] }, evaluateEvery: Math.ceil(steps / 5) }),
    },
  );
  const model = await work.model();
  return {
    ...tunedRun(work, request),
    sample: () => continued(model, request),
    attention: () => lookedAt(model, request),
  };
}

async function tunedTranslator(engine: Engine, models: Models, request: TeachRequest): Promise<Run> {
  const base = models.get("translator");
  const most = Math.min(MOST_TOKENS, base.contextLength, base.facts.encoder.contextLength);
  const { tokenizer, targetTokenizer } = base;
  const longest = longestOf(request.pairs, lengthsOf(request.pairs, tokenizer, targetTokenizer), most);
  const { train, held } = split(request.pairs);
  const pairsOf = (pairs: readonly TaughtPair[]) => ({
    task: "translation" as const,
    pairs: pairs.map(({ first, second }) => ({ source: first, target: second })),
  });
  const work = await openFinetuning(engine, models.specOf("translator"), pairsOf(train), {
    ...optionsOf(request, longest),
    ...(held.length > 0 ? { heldOut: pairsOf(held), evaluateEvery: Math.ceil(request.steps / 5) } : {}),
  });
  const model = await work.model();
  return {
    ...tunedRun(work, request),
    sample: async () => (await translated(model, request)).text,
    attention: () => crossAttention(model, request),
  };
}

async function tunedReader(engine: Engine, models: Models, request: TeachRequest): Promise<Run> {
  const { tokenizer, contextLength } = models.get("reader");
  const most = Math.min(MOST_TOKENS, contextLength);
  const longest = longestOf(request.pairs, lengthsOf(request.pairs, tokenizer), most);
  const { train, held } = split(request.pairs);
  const textsOf = (pairs: readonly TaughtPair[]) => ({
    task: "classification" as const,
    texts: pairs.map(({ first, second }) => ({ text: first, label: second })),
  });
  const known = new Set(train.map(({ second }) => second));
  const stranger = held.find(({ second }) => !known.has(second));
  if (stranger) throw badLine(stranger.line, `the label ${stranger.second} occurs in no other line`);
  const work = await openFinetuning(engine, models.specOf("reader"), textsOf(train), {
    ...optionsOf(request, longest),
    ...(held.length > 0 ? { heldOut: textsOf(held), evaluateEvery: Math.ceil(request.steps / 5) } : {}),
  });
  const model = await work.model();
  return {
    ...tunedRun(work, request),
    sample: () => classified(model, request),
    attention: () => selfAttention(model, request),
  };
}

function optionsOf({ what, steps, batch, learningRate }: TeachRequest, length: number): FinetuningOptions {
  const lora = what.kind === "adapter" ? { lora: { rank: what.rank, alpha: 2 * what.rank } } : {};
  return { ...{ steps, batch, length, learningRate, seed: 1 }, ...lora };
}

function tunedRun(work: Finetuning, request: TeachRequest): Omit<Run, "sample" | "attention"> {
  return {
    ...{ request, base: work.lora ? request.base : undefined },
    [Symbol.asyncIterator]: () => work[Symbol.asyncIterator](),
    stepsDone: () => work.trainer.stepsDone,
    files: () => work.files("f32"),
    adapterFiles: (base) => work.adapterFiles(base),
    dispose: () => work.dispose(),
  };
}

function split(pairs: readonly TaughtPair[]): { readonly train: readonly TaughtPair[]; readonly held: TaughtPair[] } {
  if (pairs.length < HELD_OUT_LINES) return { train: pairs, held: [] };
  const isHeld = (i: number) => i % 10 === 9;
  return { train: pairs.filter((_, i) => !isHeld(i)), held: pairs.filter((_, i) => isHeld(i)) };
}

type Tokenizer = Seq2SeqModel["tokenizer"];

/** Tokens of each line, of its longer side where both are read. */
function lengthsOf(pairs: readonly TaughtPair[], source: Tokenizer, target?: Tokenizer): number[] {
  const count = (tokenizer: Tokenizer, text: string) => tokenizer?.encode(text).length ?? 0;
  return pairs.map(({ first, second }) => Math.max(count(source, first), target ? count(target, second) + 1 : 0));
}

/** Tokens of the longest line. Throws `BAD_FILE` for one that has more than `most`. */
function longestOf(pairs: readonly TaughtPair[], lengths: readonly number[], most: number): number {
  const at = lengths.findIndex((length) => length > most);
  if (at >= 0) throw badLine(pairs[at]?.line ?? 0, `it has ${lengths[at]} tokens, and at most ${most} fit here`);
  return Math.max(...lengths, 1);
}

function badLine(line: number, what: string): HeedError {
  return new HeedError("BAD_FILE", `teach: line ${line}: ${what}. Shorten or change it, or leave it out.`);
}

async function continued(model: TextModel, { prompt }: TeachRequest): Promise<string> {
  const room = Math.min(SAMPLE_TOKENS, model.contextLength - (model.tokenizer?.encode(prompt).length ?? 1));
  const { text } = await model.generate(prompt, { maxTokens: Math.max(1, room), temperature: 0.8, seed: 1 }).result;
  return prompt + text;
}

async function lookedAt(model: TextModel, { text }: TeachRequest): Promise<TaughtAttention> {
  const ids =
    model.tokenizer?.encode(text.slice(0, 4 * LOOKED_AT)).slice(0, Math.min(LOOKED_AT, model.contextLength)) ?? [];
  const { tokens, layers } = await look(model, { text: ids });
  return { tokens, layers, heads: model.facts.heads, causal: true };
}

function translated(model: Seq2SeqModel, { prompt }: TeachRequest) {
  const room = Math.min(TRANSLATED_TOKENS, model.contextLength - 1);
  return model.translate(prompt, { greedy: true, maxTokens: room });
}

/** Cross-attention of a translation as it is now: what each of its tokens looked at in the source. */
async function crossAttention(model: Seq2SeqModel, request: TeachRequest): Promise<TaughtAttention> {
  const { tokenizer, targetTokenizer, facts } = model;
  const source = tokenizer?.encode(request.prompt) ?? [];
  const { ids } = await translated(model, request);
  const written = [...ids.prompt, ...ids.generated];
  // The last token is written, and never read.
  const read = written.slice(0, Math.max(1, written.length - 1));
  const { attention } = await model.run(source, read, { attention: true, logits: false });
  return {
    tokens: tokenTexts(targetTokenizer, read),
    keyTokens: tokenTexts(tokenizer, source),
    ...{ layers: attention.map(layerWeights), heads: facts.heads, causal: false },
  };
}

async function classified(model: EncoderModel, { prompt }: TeachRequest): Promise<string> {
  const { scores } = await model.classify(prompt, { truncate: true });
  return scores
    .slice(0, 3)
    .map(({ label, score }) => `${label} ${(100 * score).toFixed(1)} %`)
    .join(" · ");
}

async function selfAttention(model: EncoderModel, { prompt }: TeachRequest): Promise<TaughtAttention> {
  const ids = (model.tokenizer?.encode(prompt) ?? []).slice(0, LOOKED_AT);
  const { attention } = await model.run(ids, { attention: true, logits: false });
  const tokens = tokenTexts(model.tokenizer, ids);
  return { tokens, layers: attention.map(layerWeights), heads: model.facts.heads, causal: false };
}

/** A small GPT-2 from zero, on characters: the sizes are the person's, the rest is nanoGPT's recipe for a CPU. */
function recipeOf({ steps, length, batch, learningRate, text }: TeachRequest, { layers, heads, width }: NewModel) {
  const validationShare = text.length > 20 * length ? 0.1 : 0;
  return {
    task: "language-model",
    model: {
      ...{ architectures: ["GPT2LMHeadModel"], model_type: "gpt2", n_layer: layers, n_head: heads, n_embd: width },
      ...{ n_positions: length, activation_function: "gelu_new", tie_word_embeddings: true },
      ...{ bos_token_id: null, eos_token_id: null },
    },
    tokenizer: { type: "characters" },
    data: { text: "pasted", validationShare },
    ...{ batch, length, steps, seed: 1 },
    optimizer: { type: "adamw", beta1: 0.9, beta2: 0.99, weightDecay: 0.1, clip: 1 },
    schedule: {
      type: "cosine",
      learningRate,
      minimum: learningRate / 10,
      warmup: Math.min(100, Math.ceil(steps / 10)),
    },
    ...(validationShare > 0 ? { evaluate: { every: Math.max(1, Math.ceil(steps / 10)), batches: 4 } } : {}),
    output: ".",
  } as const;
}
