import { type Engine, HeedError, type TextModel } from "../../src/index.ts";
import { type Finetuning, openFinetuning, openTraining, type Training } from "../../src/train/index.ts";
import type { NewModel, TaughtAttention, TaughtFiles, TaughtKind, TeachReport, TeachRequest } from "../protocol.ts";
import { look } from "./look.ts";
import type { Models } from "./models.ts";

/** Characters of a sample, and tokens of the text whose attention is compared. */
const SAMPLE_TOKENS = 120;
const LOOKED_AT = 48;
/** Shorter texts are learnt whole: what would be held out says nothing. */
const HELD_OUT_FROM = 2000;

type Files = Iterable<readonly [string, readonly Uint8Array[] | string]>;

/** A training in the tab: one at a time, kept until another begins, so that its model can be saved and tried. */
export class Teacher {
  #work: Training | Finetuning | undefined;
  #adapter: TaughtFiles | undefined;
  #files: TaughtFiles | undefined;

  /** Trains on the request's text until its steps are done or the signal fires; what was learnt stays. */
  async teach(
    engine: Engine,
    models: Models,
    request: TeachRequest,
    signal: AbortSignal,
    onReport: (report: TeachReport) => void,
  ): Promise<{ readonly stopped: boolean }> {
    await this.dispose();
    const { what } = request;
    const work = what.kind === "new" ? await begun(engine, request, what) : await tuned(engine, models, request);
    this.#work = work;
    const model = await work.model();
    onReport({ step: 0, before: await attentionOf(model, request.text), sample: await sampleOf(model, request) });
    for await (const progress of work) {
      const { step, loss, validationLoss, tokens, elapsedMs, learningRate } = progress;
      const due = step % request.sampleEvery === 0 || step === request.steps;
      onReport({
        ...{ step, loss, validationLoss, learningRate, tokensPerSecond: (1000 * tokens) / elapsedMs },
        ...(due ? { sample: await sampleOf(model, request) } : {}),
      });
      // Lets the page's messages in between two updates.
      await new Promise((resolve) => setTimeout(resolve));
      if (signal.aborted) break;
    }
    onReport({ step: work.trainer.stepsDone, after: await attentionOf(model, request.text) });
    // Now, because saving the whole model merges it.
    if ("adapterFiles" in work && work.lora) this.#adapter = blobs(await work.adapterFiles(request.base));
    return { stopped: signal.aborted };
  }

  /** What was taught, as files of the Hub's or of PEFT's format. */
  async files(kind: TaughtKind): Promise<TaughtFiles> {
    if (kind === "model") this.#files ??= this.#work && blobs(await modelFiles(this.#work));
    const files = kind === "model" ? this.#files : this.#adapter;
    if (!files) throw new HeedError("USAGE", `teach: nothing was taught that could be saved as ${kind}. Teach first.`);
    return files;
  }

  async dispose(): Promise<void> {
    const old = this.#work;
    this.#work = undefined;
    this.#adapter = undefined;
    this.#files = undefined;
    await old?.dispose();
  }
}

function modelFiles(work: Training | Finetuning): Promise<Files> {
  return "adapterFiles" in work ? work.files("f32") : work.files({ dtype: "f32" });
}

function blobs(files: Files): TaughtFiles {
  return [...files].map(([name, parts]) => ({
    name,
    blob: new Blob(typeof parts === "string" ? [parts] : parts.map((part) => new Uint8Array(part))),
  }));
}

/** A model from zero. */
function begun(engine: Engine, request: TeachRequest, sizes: NewModel): Promise<Training> {
  return openTraining(engine, recipeOf(request, sizes), { readText: async () => request.text });
}

/** The page's language model, loaded anew so that the one in use stays as it is. */
function tuned(engine: Engine, models: Models, request: TeachRequest): Promise<Finetuning> {
  const { what, text, steps, batch, learningRate } = request;
  const { contextLength } = models.get("text");
  const length = Math.min(request.length, contextLength);
  const cut = text.length < HELD_OUT_FROM ? text.length : Math.floor(0.9 * text.length);
  const held = text.slice(cut);
  return openFinetuning(
    engine,
    models.specOf("text"),
    { task: "lm", texts: [text.slice(0, cut)] },
    {
      ...{ steps, batch, length, learningRate, seed: 1 },
      ...(what.kind === "adapter" ? { lora: { rank: what.rank, alpha: 2 * what.rank } } : {}),
      ...(held === "" ? {} : { heldOut: { task: "lm", texts: [held] }, evaluateEvery: Math.ceil(steps / 5) }),
    },
  );
}

async function sampleOf(model: TextModel, { prompt }: TeachRequest): Promise<string> {
  const room = Math.min(SAMPLE_TOKENS, model.contextLength - (model.tokenizer?.encode(prompt).length ?? 1));
  const { text } = await model.generate(prompt, { maxTokens: Math.max(1, room), temperature: 0.8, seed: 1 }).result;
  return prompt + text;
}

async function attentionOf(model: TextModel, text: string): Promise<TaughtAttention> {
  const ids =
    model.tokenizer?.encode(text.slice(0, 4 * LOOKED_AT)).slice(0, Math.min(LOOKED_AT, model.contextLength)) ?? [];
  const { tokens, layers } = await look(model, { text: ids });
  return { tokens, layers, heads: model.facts.heads };
}

/** A small GPT-2 from zero, on characters: the sizes are the person's, the rest is nanoGPT's recipe for a CPU. */
function recipeOf(
  { steps, length, batch, learningRate, text }: TeachRequest,
  { layers, heads, width }: NewModel,
): object {
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
  };
}
