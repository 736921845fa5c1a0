import { proxy } from "comlink";
import { LookState } from "../attention/look_state.svelte.ts";
import { AttentionMaps } from "../attention/maps.ts";
import type { EnginePage } from "../engine_page.svelte.ts";
import { save } from "../files.ts";
import type {
  Failure,
  Outcome,
  TaughtAttention,
  TaughtFiles,
  TaughtKind,
  TaughtModel,
  TaughtSlot,
  TeachOutcome,
  TeachReport,
  TeachRequest,
} from "../protocol.ts";
import { t } from "../text/i18n.svelte.ts";

/** A training in the tab: its curve, samples, and what the model looked at before and after. */
export class TeachState {
  running = $state(false);
  stopping = $state(false);
  step = $state(0);
  steps = $state(0);
  tokensPerSecond = $state(0);
  /** Of the last update. */
  loss = $state(0);
  startedAt = 0;
  /** Updates that were done then. */
  startedStep = 0;
  /** One entry an update; the curve reads them when {@link step} changes. */
  losses: number[] = [];
  validation: [number, number][] = [];
  /** What the model made of what it is asked, before and now. */
  firstSample = $state("");
  sample = $state("");
  fault = $state.raw<Failure | undefined>();
  done = $state(false);
  /** It was stopped, and can go on. */
  unfinished = $state(false);
  /** What was taught last. */
  what = $state.raw<TaughtModel>({ kind: "new", layers: 0, heads: 0, width: 0 });
  /** What it is asked. */
  prompt = $state("");
  readonly before = new LookState();
  readonly after = new LookState();
  readonly page: EnginePage;

  constructor(page: EnginePage) {
    this.page = page;
  }

  /** The slot that what was taught is for. */
  get slot(): TaughtSlot {
    return this.what.kind === "new" ? "text" : this.what.slot;
  }

  async teach(request: TeachRequest): Promise<void> {
    if (this.running || this.page.busy) return;
    this.step = 0;
    this.steps = request.steps;
    this.what = request.what;
    this.prompt = request.prompt;
    this.losses = [];
    this.validation = [];
    this.firstSample = "";
    this.sample = "";
    this.before.clear();
    this.after.clear();
    await this.#run((onReport) => this.page.ask((engine) => engine.teach(request, proxy(onReport))));
  }

  /** Goes on with what was stopped. */
  async goOn(): Promise<void> {
    if (this.running || this.page.busy || !this.unfinished) return;
    await this.#run((onReport) => this.page.ask((engine) => engine.teachOn(proxy(onReport))));
  }

  async #run(
    work: (onReport: (report: TeachReport) => void) => Promise<Outcome<TeachOutcome> | undefined>,
  ): Promise<void> {
    this.running = true;
    this.stopping = false;
    this.done = false;
    this.unfinished = false;
    this.fault = undefined;
    this.startedAt = performance.now();
    this.startedStep = this.step;
    const result = await work((report) => this.#take(report));
    this.running = false;
    if (!result) return;
    if (result.ok) {
      this.done = this.step > 0;
      this.unfinished = result.value.unfinished;
    } else this.fault = result.error;
  }

  stop(): void {
    if (!this.running) return;
    this.stopping = true;
    this.page.stop();
  }

  /** Downloads what was taught. */
  async saveFiles(kind: TaughtKind): Promise<void> {
    for (const { name, blob } of await this.#files(kind)) save(name, blob);
  }

  /** Opens in its tab what was taught: an adapter beside the model that it was made for, else the model. */
  async tryIt(name: string): Promise<void> {
    const model = this.page.models[this.slot];
    // An encoder's adapter needs the head that was trained with it, which the model in use may lack.
    const beside = this.what.kind === "adapter" && this.slot !== "reader" && model.state.phase === "ready";
    const files = await this.#files(beside ? "adapter" : "model");
    if (files.length === 0) return;
    const spec = new Map(files.map(({ name, blob }) => [name, new File([blob], name)]));
    if (beside) this.fault = await model.addAdapter({ name, spec });
    else await model.load({ name, spec });
  }

  async #files(kind: TaughtKind): Promise<TaughtFiles> {
    const result = await this.page.ask((engine) => engine.taught(kind));
    // A model that is saved has its adapter merged: nothing goes on from there.
    if (kind === "model" && this.what.kind === "adapter") this.unfinished = false;
    if (result?.ok) return result.value;
    this.fault = result?.error;
    return [];
  }

  #take(report: TeachReport): void {
    const { step, loss, validationLoss, tokensPerSecond, sample, attention } = report;
    if (loss !== undefined) {
      this.losses[step - 1] = loss;
      this.loss = loss;
    }
    if (validationLoss !== undefined) this.validation.push([step, validationLoss]);
    if (tokensPerSecond !== undefined) this.tokensPerSecond = tokensPerSecond;
    if (sample !== undefined) {
      if (step === 0) this.firstSample = sample;
      else this.sample = sample;
    }
    if (attention) show(step === 0 ? this.before : this.after, attention);
    this.step = step;
  }
}

function show(look: LookState, { tokens, keyTokens, layers, heads, causal }: TaughtAttention): void {
  const mask = causal ? ({ kind: "causal" } as const) : ({ kind: "none" } as const);
  // A decoder beside a source begins with a token that is no text.
  const queries = keyTokens ? tokens.map((token, i) => (i === 0 ? { ...token, text: t("[begin]") } : token)) : tokens;
  const maps = new AttentionMaps({ layers: layers.length, heads }, mask, queries, keyTokens);
  for (const layer of layers) maps.add(layer);
  look.show(maps);
}
