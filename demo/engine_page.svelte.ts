import { proxy, type Remote, wrap } from "comlink";
import type { DownloadUsage, Tier } from "../src/index.ts";
import type { Choice } from "./files.ts";
import type { DeviceReport, EngineWorker, Failure, LoadReport, ModelReport, Outcome, Slot } from "./protocol.ts";

export type DeviceState =
  | { readonly phase: "starting" }
  | { readonly phase: "ready"; readonly report: DeviceReport }
  | { readonly phase: "missing"; readonly error: Failure }
  | { readonly phase: "lost"; readonly error: Failure };

export type ModelState =
  | { readonly phase: "none"; readonly error?: Failure }
  | { readonly phase: "loading"; readonly name: string; readonly progress?: LoadReport }
  | { readonly phase: "ready"; readonly name: string; readonly report: ModelReport };

/** Said without a worker, which an old browser may not start at all. */
const NO_WEBGPU: Failure = {
  code: "NO_WEBGPU",
  message: "device: WebGPU is needed; got a page without navigator.gpu.",
};

/** What the worker is asked for. */
type Work<T> = (engine: Remote<EngineWorker>) => Promise<Outcome<T>>;

/** The page's view of the engine, which runs in a worker: the device, one model for each use, and whether something runs. */
export class EnginePage {
  device = $state.raw<DeviceState>({ phase: "starting" });
  gpuBytes = $state(0);
  readonly models: Readonly<Record<Slot, ModelSlot>>;
  #running = $state(0);
  /** Ends when nothing arrives by itself. */
  #arrival: Promise<unknown> = Promise.resolve();
  #worker: Worker | undefined;
  #engine: Remote<EngineWorker> | undefined;
  /** Resolves once the engine was started anew, whose worker answers no more. */
  #gone: Promise<undefined> | undefined;
  #leave: (() => void) | undefined;

  constructor() {
    this.models = {
      text: new ModelSlot(this, "text"),
      translator: new ModelSlot(this, "translator"),
      reader: new ModelSlot(this, "reader"),
      listener: new ModelSlot(this, "listener"),
    };
  }

  /** True while something runs that a person asked for. What is asked while a model arrives by itself waits for it. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** True while something runs or arrives. */
  get active(): boolean {
    return this.busy || Object.values(this.models).some(({ state }) => state.phase === "loading");
  }

  /** Resolves once nothing runs, and no engine is being started. */
  async whenIdle(): Promise<void> {
    while (this.active || this.device.phase === "starting") await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Starts an engine in a new worker; whatever ran before is ended. */
  async start(tier?: Tier): Promise<void> {
    this.#worker?.terminate();
    this.#leave?.();
    this.#gone = new Promise((resolve) => {
      this.#leave = () => resolve(undefined);
    });
    this.device = { phase: "starting" };
    for (const model of Object.values(this.models)) model.drop();
    this.gpuBytes = 0;
    this.#running = 0;
    if (!navigator.gpu) {
      this.device = { phase: "missing", error: NO_WEBGPU };
      return;
    }
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "heed" });
    this.#worker = worker;
    const engine = wrap<EngineWorker>(worker);
    this.#engine = engine;
    const result = await Promise.race([engine.start(tier), workerFailure(worker)]);
    if (this.#worker !== worker) return;
    this.device = result.ok ? { phase: "ready", report: result.value } : { phase: "missing", error: result.error };
  }

  /** Starts anew, and loads the last models again. */
  async restart(tier?: Tier): Promise<void> {
    await this.start(tier);
    for (const model of Object.values(this.models)) await model.reload();
  }

  /**
   * Asks the worker, one thing at a time, after what arrives by itself. Resolves with undefined where there is no engine, where
   * something else runs, or where the engine was started anew meanwhile: nobody waits for the answer then.
   */
  async ask<T>(work: Work<T>): Promise<Outcome<T> | undefined> {
    const engine = this.#engine;
    if (!engine || this.busy) return undefined;
    this.#running++;
    await this.#arrival;
    const result = this.#engine === engine && (await Promise.race([work(engine), this.#gone]));
    if (this.#engine !== engine || !result) return undefined;
    this.#running--;
    if (!result.ok) this.#noticeLoss(result.error);
    return result;
  }

  /** As {@link ask}, for what no person asked for: what they do meanwhile waits for it, and is not refused. */
  async arrive<T>(work: Work<T>): Promise<Outcome<T> | undefined> {
    const engine = this.#engine;
    if (!engine || this.active) return undefined;
    const arrival = Promise.race([work(engine), this.#gone]);
    this.#arrival = arrival;
    const result = await arrival;
    if (this.#engine !== engine || !result) return undefined;
    if (!result.ok) this.#noticeLoss(result.error);
    return result;
  }

  /** Resolves once nothing arrives by itself any more. */
  async arrived(): Promise<void> {
    await this.#arrival;
  }

  /** What downloads take on this device. Disturbs nothing. */
  async downloads(): Promise<DownloadUsage | undefined> {
    const result = await this.#engine?.cache();
    return result?.ok ? result.value : undefined;
  }

  /** Ends what runs: it resolves as aborted. */
  stop(): void {
    void this.#engine?.stop();
  }

  cancelLoad(): void {
    void this.#engine?.cancelLoad();
  }

  /** A lost device takes the models with it. */
  #noticeLoss(error: Failure): void {
    if (error.code !== "DEVICE_LOST") return;
    this.device = { phase: "lost", error };
    for (const model of Object.values(this.models)) model.drop();
    this.gpuBytes = 0;
  }
}

/** The model of one use: what it is, or how far it has come. */
export class ModelSlot {
  state = $state.raw<ModelState>({ phase: "none" });
  /** LoRA adapters beside the model. */
  adapters = $state.raw<readonly string[]>([]);
  /** The one in use. */
  adapter = $state<string | undefined>();
  readonly slot: Slot;
  readonly page: EnginePage;
  #choice: Choice | undefined;
  #wanted = 0;

  constructor(page: EnginePage, slot: Slot) {
    this.page = page;
    this.slot = slot;
  }

  /** What is loaded or being loaded, or was before the device was lost. */
  get choice(): Choice | undefined {
    return this.#choice;
  }

  /** Loads a model; one that comes `byItself` keeps nobody from using another that is there. */
  async load(choice: Choice, { byItself = false } = {}): Promise<void> {
    const { page, slot } = this;
    if (page.busy || page.device.phase !== "ready") return;
    const { name, spec } = choice;
    const wanted = ++this.#wanted;
    const before = this.#choice;
    const onProgress = (progress: LoadReport) => {
      if (wanted === this.#wanted && this.state.phase === "loading") this.state = { phase: "loading", name, progress };
    };
    const work: Work<ModelReport> = (engine) => {
      this.#forgetAdapters();
      this.#choice = choice;
      this.state = { phase: "loading", name };
      return engine.load(slot, spec, proxy(onProgress));
    };
    const result = await (byItself ? page.arrive(work) : page.ask(work));
    if (wanted !== this.#wanted || !result) return;
    if (result.ok) {
      this.state = { phase: "ready", name, report: result.value };
      page.gpuBytes = result.value.gpuBytes;
    } else {
      this.#choice = result.error.code === "DEVICE_LOST" ? choice : before;
      this.state = { phase: "none", error: result.error.code === "ABORTED" ? undefined : result.error };
    }
  }

  async reload(): Promise<void> {
    if (!this.#choice) return;
    await this.page.whenIdle();
    if (this.page.device.phase === "ready") await this.load(this.#choice);
  }

  /** Frees the model. */
  async unload(): Promise<void> {
    if (this.page.busy) return;
    this.#choice = undefined;
    this.drop();
    await this.page.ask((engine) => engine.unload(this.slot));
  }

  /** Puts an adapter's files beside the model, and uses it. Resolves with why that was not possible. */
  async addAdapter({ name, spec }: Choice): Promise<Failure | undefined> {
    const { slot } = this;
    if (typeof spec === "string" || slot === "listener") return undefined;
    const own = this.adapters.includes(name) ? `${name} ${this.adapters.length + 1}` : name;
    const result = await this.page.ask((engine) => engine.addAdapter(slot, own, spec));
    if (!result?.ok) return result?.error;
    this.adapters = [...this.adapters, own];
    this.adapter = own;
    return undefined;
  }

  /** Computes with an adapter that was added, or with none. */
  async useAdapter(name: string | undefined): Promise<void> {
    const { slot } = this;
    if (slot === "listener") return;
    const result = await this.page.ask((engine) => engine.useAdapter(slot, name));
    if (result?.ok) this.adapter = name;
  }

  /** Forgets the model, whose engine is gone. */
  drop(): void {
    this.#wanted++;
    this.#forgetAdapters();
    this.state = { phase: "none" };
  }

  #forgetAdapters(): void {
    this.adapters = [];
    this.adapter = undefined;
  }
}

/** Resolves if the worker itself cannot run: a script that does not arrive, or a browser without module workers. */
function workerFailure(worker: Worker): Promise<Outcome<never>> {
  return new Promise((resolve) => {
    worker.addEventListener("error", (event) => {
      const message = `worker: the engine's worker did not start; got ${event.message || "no reason"}. Reload the page.`;
      resolve({ ok: false, error: { code: "INTERNAL", message } });
    });
  });
}
