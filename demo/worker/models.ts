import {
  type EncoderModel,
  type Engine,
  HeedError,
  type Seq2SeqModel,
  type SpeechModel,
  type TextModel,
} from "../../src/index.ts";
import { abilitiesOf, maskOf } from "./read.ts";
import type { LoadReport, ModelReport, ModelSpec, Slot } from "../protocol.ts";

/** The kind of model of each slot. */
interface Kinds {
  text: TextModel;
  translator: Seq2SeqModel;
  reader: EncoderModel;
  listener: SpeechModel;
}

/** What a load reports to, and what ends it. */
export interface LoadWatch {
  readonly signal: AbortSignal;
  onProgress(report: LoadReport): void;
}

/** The models that are loaded: one for each slot of the page. */
export class Models {
  readonly #loaded: { -readonly [S in Slot]?: Kinds[S] } = {};
  readonly #specs = new Map<Slot, ModelSpec>();

  /** The model of a slot. Throws `USAGE` where none is loaded. */
  get<S extends Slot>(slot: S): Kinds[S] {
    const model = this.#loaded[slot];
    if (model) return model as Kinds[S];
    throw new HeedError("USAGE", `page: a model is needed for ${slot} and none is loaded. Load one first.`);
  }

  find<S extends Slot>(slot: S): Kinds[S] | undefined {
    return this.#loaded[slot] as Kinds[S] | undefined;
  }

  /** What the model of a slot was loaded from. Throws `USAGE` where none is loaded. */
  specOf(slot: Slot): ModelSpec {
    this.get(slot);
    return this.#specs.get(slot) ?? "";
  }

  /** Puts a model into a slot, in place of the old one. */
  async load(engine: Engine, slot: Slot, spec: ModelSpec, watch: LoadWatch): Promise<ModelReport> {
    await this.unload(slot);
    const model = await open(engine, slot, spec, watch);
    Object.assign(this.#loaded, { [slot]: model });
    this.#specs.set(slot, spec);
    return reportOf(engine, model);
  }

  async unload(slot: Slot): Promise<void> {
    const old = this.#loaded[slot];
    delete this.#loaded[slot];
    await old?.dispose();
  }
}

function open(engine: Engine, slot: Slot, spec: ModelSpec, watch: LoadWatch): Promise<Kinds[Slot]> {
  const options = {
    signal: watch.signal,
    onProgress: ({ loadedBytes, totalBytes }: LoadReport) => watch.onProgress({ loadedBytes, totalBytes }),
    source: { onProgress: (report: LoadReport) => watch.onProgress(report) },
  };
  if (slot === "translator") return engine.loadSeq2Seq(spec, options);
  if (slot === "listener") return engine.loadSpeech(spec, options);
  if (slot === "reader") return engine.loadEncoder(spec, options);
  return engine.load(spec, options);
}

function reportOf(engine: Engine, model: Kinds[Slot]): ModelReport {
  const { family, source, tokenizer, facts } = model;
  const { contextLength, vocabSize } = facts;
  return {
    ...{ family, source, contextLength, vocabSize },
    layers: facts.layers,
    heads: facts.heads,
    hasTokenizer: tokenizer !== undefined,
    gpuBytes: engine.device.bytesInUse,
    ...(model.kind === "encoder" ? { abilities: abilitiesOf(model), mask: maskOf(model) } : {}),
  };
}
