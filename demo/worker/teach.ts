import type { Engine, TextModel } from "../../src/index.ts";
import { openTraining, type Training } from "../../src/train/index.ts";
import type { LayerWeights, TokenText } from "../attention/maps.ts";
import type { TaughtFiles, TeachReport, TeachRequest } from "../protocol.ts";
import { look } from "./look.ts";

/** Characters of a sample, and of the text whose attention is compared. */
const SAMPLE_TOKENS = 120;
const LOOKED_AT = 48;

/** A training in the tab: one at a time, kept until another begins, so that its model can be saved and tried. */
export class Teacher {
  #training: Training | undefined;
  #model: TextModel | undefined;

  /** Trains on the request's text until its steps are done or the signal fires; what was learnt stays. */
  async teach(
    engine: Engine,
    request: TeachRequest,
    signal: AbortSignal,
    onReport: (report: TeachReport) => void,
  ): Promise<{ readonly stopped: boolean }> {
    await this.dispose();
    const training = await openTraining(engine, recipeOf(request), { readText: async () => request.text });
    this.#training = training;
    const model = await training.model();
    this.#model = model;
    onReport({ step: 0, before: await attentionOf(model, request.text), sample: await sampleOf(model, request) });
    for await (const progress of training) {
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
    onReport({ step: training.trainer.stepsDone, after: await attentionOf(model, request.text) });
    return { stopped: signal.aborted };
  }

  /** The model as files of the Hub's format. */
  async files(): Promise<TaughtFiles> {
    const files = (await this.#training?.files({ dtype: "f32" })) ?? new Map<string, readonly Uint8Array[] | string>();
    return [...files].map(([name, parts]) => ({
      name,
      blob: new Blob(typeof parts === "string" ? [parts] : parts.map((part) => new Uint8Array(part))),
    }));
  }

  async dispose(): Promise<void> {
    const old = this.#training;
    this.#training = undefined;
    this.#model = undefined;
    await old?.dispose();
  }
}

async function sampleOf(model: TextModel, { prompt }: TeachRequest): Promise<string> {
  const room = Math.min(SAMPLE_TOKENS, model.contextLength - (model.tokenizer?.encode(prompt).length ?? 1));
  const { text } = await model.generate(prompt, { maxTokens: Math.max(1, room), temperature: 0.8, seed: 1 }).result;
  return prompt + text;
}

async function attentionOf(
  model: TextModel,
  text: string,
): Promise<{ tokens: readonly TokenText[]; layers: readonly LayerWeights[]; heads: number }> {
  const ids =
    model.tokenizer?.encode(text.slice(0, 4 * LOOKED_AT)).slice(0, Math.min(LOOKED_AT, model.contextLength)) ?? [];
  const { tokens, layers } = await look(model, { text: ids });
  return { tokens, layers, heads: model.facts.heads };
}

/** A small GPT-2 from zero, on characters: the sizes are the person's, the rest is nanoGPT's recipe for a CPU. */
function recipeOf({ steps, layers, heads, width, length, batch, learningRate, text }: TeachRequest): object {
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
