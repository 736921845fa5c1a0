import { proxy } from "comlink";
import { LookState } from "../attention/look_state.svelte.ts";
import { AttentionMaps } from "../attention/maps.ts";
import type { EnginePage } from "../engine_page.svelte.ts";
import { save } from "../files.ts";
import type {
  Failure,
  TaughtAttention,
  TaughtFiles,
  TaughtKind,
  TaughtModel,
  TeachReport,
  TeachRequest,
} from "../protocol.ts";

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
  /** One entry an update; the curve reads them when {@link step} changes. */
  losses: number[] = [];
  validation: [number, number][] = [];
  sample = $state("");
  fault = $state.raw<Failure | undefined>();
  done = $state(false);
  /** What was taught last. */
  kind = $state<TaughtModel["kind"]>("new");
  readonly before = new LookState();
  readonly after = new LookState();
  readonly page: EnginePage;

  constructor(page: EnginePage) {
    this.page = page;
  }

  async teach(request: TeachRequest): Promise<void> {
    if (this.running || this.page.busy) return;
    this.running = true;
    this.stopping = false;
    this.done = false;
    this.step = 0;
    this.steps = request.steps;
    this.kind = request.what.kind;
    this.losses = [];
    this.validation = [];
    this.sample = "";
    this.fault = undefined;
    this.before.clear();
    this.after.clear();
    this.startedAt = performance.now();
    const onReport = (report: TeachReport) => this.#take(report);
    const result = await this.page.ask((engine) => engine.teach(request, proxy(onReport)));
    this.running = false;
    if (!result) return;
    if (result.ok) this.done = this.step > 0;
    else this.fault = result.error;
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

  /** Opens in the Write tab what was taught: an adapter beside the model that it was made for, else the model. */
  async tryIt(name: string): Promise<void> {
    const { text } = this.page.models;
    const beside = this.kind === "adapter" && text.state.phase === "ready";
    const files = await this.#files(beside ? "adapter" : "model");
    if (files.length === 0) return;
    const spec = new Map(files.map(({ name, blob }) => [name, new File([blob], name)]));
    if (beside) this.fault = await text.addAdapter({ name, spec });
    else await text.load({ name, spec });
  }

  async #files(kind: TaughtKind): Promise<TaughtFiles> {
    const result = await this.page.ask((engine) => engine.taught(kind));
    if (result?.ok) return result.value;
    this.fault = result?.error;
    return [];
  }

  #take(report: TeachReport): void {
    const { step, loss, validationLoss, tokensPerSecond, sample, before, after } = report;
    if (loss !== undefined) {
      this.losses[step - 1] = loss;
      this.loss = loss;
    }
    if (validationLoss !== undefined) this.validation.push([step, validationLoss]);
    if (tokensPerSecond !== undefined) this.tokensPerSecond = tokensPerSecond;
    if (sample !== undefined) this.sample = sample;
    if (before) show(this.before, before);
    if (after) show(this.after, after);
    this.step = step;
  }
}

function show(look: LookState, { tokens, layers, heads }: TaughtAttention): void {
  const maps = new AttentionMaps({ layers: layers.length, heads }, { kind: "causal" }, tokens);
  for (const layer of layers) maps.add(layer);
  look.show(maps);
}
