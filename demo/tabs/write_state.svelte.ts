import { proxy } from "comlink";
import { AttentionMaps, type TokenText } from "../attention/maps.ts";
import { LookState } from "../attention/look_state.svelte.ts";
import type { EnginePage } from "../engine_page.svelte.ts";
import type {
  Candidate,
  Failure,
  GenerateRequest,
  HeadName,
  LookReport,
  ModelReport,
  Outcome,
  PieceReport,
  StepsReport,
  WritingReport,
} from "../protocol.ts";

/** What is being written, or was last. */
export interface WritingState {
  readonly running: boolean;
  readonly prompt: string;
  readonly text: string;
  /** Pieces of text so far: close to the number of tokens, which is known at the end. */
  readonly pieces: number;
  readonly startedAt: number;
  readonly firstPieceAt: number;
  readonly stopping: boolean;
  readonly report?: WritingReport;
  readonly error?: Failure;
}

/** Sampling as the form has it. */
export type Sampling = Omit<GenerateRequest, "prompt" | "watch" | "prefix">;

/** What a generation goes on from. */
interface Beginning {
  readonly prompt: string | readonly number[];
  /** The same as text. */
  readonly shown: string;
  readonly prefix: number | "prompt";
}

/** A longer text is looked into only when a person asks. */
const LOOK_AT_ONCE = 256;
/** Tokens that a text with heads off goes on for. */
const CONTINUED = 24;

/** The text that is being written, what may come next, and the attention inside. */
export class WriteState {
  writing = $state.raw<WritingState | undefined>();
  /** The whole text as tokens, once it is known. */
  tokens = $state.raw<readonly TokenText[]>([]);
  /** Tokens of the prompt that a person typed. */
  promptTokens = $state(0);
  /** So many first tokens see each other both ways. */
  prefix = $state(0);
  next = $state.raw<readonly Candidate[]>([]);
  /** What might have come next with every head on. */
  nextBefore = $state.raw<readonly Candidate[] | undefined>();
  /** The text that follows with heads off. */
  changed = $state.raw<string | undefined>();
  fault = $state.raw<Failure | undefined>();
  /** Look inside while writing. */
  live = $state(true);
  readonly look = new LookState();
  readonly page: EnginePage;

  constructor(page: EnginePage) {
    this.page = page;
  }

  get model(): ModelReport | undefined {
    const { state } = this.page.models.text;
    return state.phase === "ready" ? state.report : undefined;
  }

  /** Forgets the text, as for another model. */
  reset(): void {
    this.writing = undefined;
    this.tokens = [];
    this.next = [];
    this.nextBefore = undefined;
    this.changed = undefined;
    this.fault = undefined;
    this.prefix = 0;
    this.look.off = [];
    this.look.clear();
  }

  /** Continues a prompt, whose tokens see each other both ways if `bothWays` is set. */
  async write(prompt: string, sampling: Sampling, bothWays = false): Promise<void> {
    this.promptTokens = 0;
    await this.#generate({ prompt, shown: prompt, prefix: bothWays ? "prompt" : 0 }, sampling);
  }

  /** Writes on after the tokens that there are, `tokens` more of them first chosen by a person. */
  async goOn(sampling: Sampling, chosen: readonly TokenText[] = []): Promise<void> {
    const all = [...this.tokens, ...chosen];
    const shown = all.map(({ text }) => text).join("");
    await this.#generate({ prompt: all.map(({ id }) => id), shown, prefix: this.prefix }, sampling);
  }

  /** Cuts the text after so many tokens, and shows what may come there. */
  async rewind(count: number): Promise<void> {
    this.#become(this.tokens.slice(0, count));
    this.promptTokens = Math.min(this.promptTokens, count);
    this.prefix = Math.min(this.prefix, count);
    const text = this.tokens.map(({ text }) => text).join("");
    if (this.writing) this.writing = { ...this.writing, prompt: text, text: "", report: undefined };
    await this.lookInside();
  }

  stop(): void {
    if (!this.writing?.running) return;
    this.writing = { ...this.writing, stopping: true };
    this.page.stop();
  }

  /** A forward pass over the text: all maps, and what may come next. */
  async lookInside(): Promise<void> {
    const { prefix } = this;
    const { off } = this.look;
    const text = this.tokens.map(({ id }) => id);
    if (text.length === 0) return;
    const result = await this.page.ask((engine) => engine.look({ text, ablate: [...off], prefix }));
    if (!result) return;
    if (!result.ok) {
      this.fault = result.error;
      return;
    }
    this.fault = undefined;
    this.#show(result.value);
  }

  /** Switches the selected head off or on, and shows what that changes. */
  async toggleHead(): Promise<void> {
    const { look } = this;
    const before = look.off.length === 0 ? this.next : this.nextBefore;
    look.toggle(look.layer, look.head);
    const { off } = look;
    await this.lookInside();
    this.nextBefore = off.length > 0 ? before : undefined;
    this.changed = undefined;
    if (off.length === 0) return;
    const { prefix } = this;
    const request = { ids: this.tokens.map(({ id }) => id), ablate: [...off], tokens: CONTINUED, prefix };
    const result = await this.page.ask((engine) => engine.continueWith(request));
    if (result?.ok) this.changed = result.value.map(({ text }) => text).join("");
  }

  /** The three steps of a head over the text. */
  steps(head: HeadName): Promise<Outcome<StepsReport> | undefined> {
    const ids = this.tokens.map(({ id }) => id);
    return this.page.ask((engine) => engine.steps(ids, head, this.prefix));
  }

  async #generate({ prompt, shown, prefix }: Beginning, sampling: Sampling): Promise<void> {
    const { page } = this;
    if (page.busy || !this.model) return;
    const begun: WritingState = {
      ...{ running: true, stopping: false, prompt: shown, text: "" },
      ...{ pieces: 0, startedAt: performance.now(), firstPieceAt: 0 },
    };
    this.fault = undefined;
    this.changed = undefined;
    this.nextBefore = undefined;
    this.look.off = [];
    this.writing = begun;
    await page.arrived();
    const watch = this.live && !this.writing?.stopping && (await this.#watchPrompt({ prompt, prefix }));
    if (this.writing?.stopping || !this.model) {
      this.writing = { ...(this.writing ?? begun), running: false, stopping: false };
      return;
    }
    const onPiece = (report: PieceReport) => this.#take(begun, report);
    const result = await page.ask((engine) => engine.generate({ prompt, ...sampling, watch, prefix }, proxy(onPiece)));
    const last = this.writing ?? begun;
    if (!result) {
      this.writing = { ...last, running: false };
      return;
    }
    if (!result.ok) {
      this.writing = { ...last, running: false, error: result.error };
      return;
    }
    const report = result.value;
    this.writing = { ...last, running: false, text: report.text, report };
    page.gpuBytes = report.gpuBytes;
    this.#become([...report.prompt, ...report.tokens]);
    if (typeof prompt === "string") this.promptTokens = report.prompt.length;
    this.prefix = prefix === "prompt" ? report.prompt.length : prefix;
    if (this.tokens.length <= LOOK_AT_ONCE && this.live) await this.lookInside();
  }

  /** Another text, after which other tokens may come: those are not known yet. */
  #become(tokens: readonly TokenText[]): void {
    this.tokens = tokens;
    this.next = [];
  }

  /** Shows the prompt's maps before its first token is written. False where the prompt is too long for that. */
  async #watchPrompt({ prompt, prefix }: Pick<Beginning, "prompt" | "prefix">): Promise<boolean> {
    if (prompt.length > 4 * LOOK_AT_ONCE) return false;
    const result = await this.page.ask((engine) => engine.look({ text: prompt, prefix }));
    if (!result?.ok || result.value.tokens.length > LOOK_AT_ONCE) return false;
    this.prefix = prefix === "prompt" ? result.value.tokens.length : prefix;
    this.#show(result.value);
    return true;
  }

  #show({ tokens, layers, next }: LookReport): void {
    const { model } = this;
    if (!model) return;
    const maps = new AttentionMaps(model, { kind: "causal", prefix: this.prefix }, tokens);
    for (const layer of layers) maps.add(layer);
    this.look.show(maps);
    this.tokens = tokens;
    this.next = next;
  }

  #take(begun: WritingState, { text, pieces, steps, gpuBytes }: PieceReport): void {
    const now = this.writing;
    // Reports travel beside the answer, so that the last one may come after it.
    if (now?.startedAt !== begun.startedAt) return;
    for (const { position, token, layers } of steps) this.look.extend(position, token, layers);
    if (!now.running) return;
    this.writing = { ...now, text, pieces, firstPieceAt: now.firstPieceAt || performance.now() };
    this.page.gpuBytes = gpuBytes;
  }
}
