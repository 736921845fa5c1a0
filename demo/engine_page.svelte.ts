import { proxy, type Remote, wrap } from "comlink";
import type { Tier } from "../src/index.ts";
import type { Choice } from "./files.ts";
import type {
  DeviceReport,
  EngineWorker,
  Failure,
  GenerateRequest,
  LoadReport,
  ModelReport,
  Outcome,
  WritingReport,
} from "./protocol.ts";

export type DeviceState =
  | { readonly phase: "starting" }
  | { readonly phase: "ready"; readonly report: DeviceReport }
  | { readonly phase: "missing"; readonly error: Failure }
  | { readonly phase: "lost"; readonly error: Failure };

export type ModelState =
  | { readonly phase: "none"; readonly error?: Failure }
  | { readonly phase: "loading"; readonly name: string; readonly progress?: LoadReport }
  | { readonly phase: "ready"; readonly name: string; readonly report: ModelReport };

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

/** Said without a worker, which an old browser may not start at all. */
const NO_WEBGPU: Failure = {
  code: "NO_WEBGPU",
  message: "device: WebGPU is needed; got a page without navigator.gpu.",
};

/** The page's view of the engine: what to show now, and what a person can do. The engine itself is in a worker. */
export class EnginePage {
  device = $state.raw<DeviceState>({ phase: "starting" });
  model = $state.raw<ModelState>({ phase: "none" });
  writing = $state.raw<WritingState | undefined>();
  gpuBytes = $state(0);
  #worker: Worker | undefined;
  #engine: Remote<EngineWorker> | undefined;
  #choice: Choice | undefined;

  /** True while something runs that a second action would disturb. */
  get busy(): boolean {
    return this.model.phase === "loading" || this.writing?.running === true;
  }

  /** Starts an engine in a new worker; whatever ran before is ended. */
  async start(tier?: Tier): Promise<void> {
    this.#worker?.terminate();
    this.device = { phase: "starting" };
    this.model = { phase: "none" };
    this.gpuBytes = 0;
    if (!navigator.gpu) {
      this.device = { phase: "missing", error: NO_WEBGPU };
      return;
    }
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "heed" });
    this.#worker = worker;
    const engine = wrap<EngineWorker>(worker);
    this.#engine = engine;
    const broken = workerFailure(worker);
    const result = await Promise.race([engine.start(tier), broken]);
    if (this.#worker !== worker) return;
    this.device = result.ok ? { phase: "ready", report: result.value } : { phase: "missing", error: result.error };
  }

  /** Starts anew, and loads the last model again. */
  async restart(tier?: Tier): Promise<void> {
    await this.start(tier);
    if (this.#choice && this.device.phase === "ready") await this.load(this.#choice);
  }

  async load(choice: Choice): Promise<void> {
    const engine = this.#engine;
    if (!engine || this.busy) return;
    const { name, spec } = choice;
    // What the lost device had written stays to be read.
    if (choice !== this.#choice) this.writing = undefined;
    this.model = { phase: "loading", name };
    const onProgress = (progress: LoadReport) => {
      if (this.#engine === engine && this.model.phase === "loading") this.model = { phase: "loading", name, progress };
    };
    const result = await engine.load(spec, proxy(onProgress));
    if (this.#engine !== engine) return;
    if (result.ok) {
      this.#choice = choice;
      this.model = { phase: "ready", name, report: result.value };
      this.gpuBytes = result.value.gpuBytes;
      return;
    }
    this.gpuBytes = 0;
    this.model = { phase: "none", error: result.error.code === "ABORTED" ? undefined : result.error };
    this.#noticeLoss(result);
  }

  cancelLoad(): void {
    void this.#engine?.cancelLoad();
  }

  /** Frees the model. */
  async unload(): Promise<void> {
    if (this.busy) return;
    this.model = { phase: "none" };
    this.writing = undefined;
    this.#choice = undefined;
    await this.#engine?.unload();
    this.gpuBytes = 0;
  }

  async write(request: GenerateRequest): Promise<void> {
    const engine = this.#engine;
    if (!engine || this.busy || this.model.phase !== "ready") return;
    const begun: WritingState = {
      running: true,
      prompt: request.prompt,
      text: "",
      pieces: 0,
      startedAt: performance.now(),
      firstPieceAt: 0,
      stopping: false,
    };
    this.writing = begun;
    const result = await engine.generate(
      request,
      proxy(({ text, pieces, gpuBytes }) => {
        const now = this.writing;
        // Reports travel beside the answer, so that the last one may come after it.
        if (!now?.running || now.startedAt !== begun.startedAt) return;
        this.writing = { ...now, text, pieces, firstPieceAt: now.firstPieceAt || performance.now() };
        this.gpuBytes = gpuBytes;
      }),
    );
    if (this.#engine !== engine) return;
    const last = this.writing ?? begun;
    if (result.ok) {
      this.writing = { ...last, running: false, text: result.value.text, report: result.value };
      this.gpuBytes = result.value.gpuBytes;
    } else {
      this.writing = { ...last, running: false, error: result.error };
      this.#noticeLoss(result);
    }
  }

  stop(): void {
    if (!this.writing?.running) return;
    this.writing = { ...this.writing, stopping: true };
    void this.#engine?.stop();
  }

  /** A lost device takes the model with it. */
  #noticeLoss(result: Outcome<unknown>): void {
    if (result.ok || result.error.code !== "DEVICE_LOST") return;
    this.device = { phase: "lost", error: result.error };
    this.model = { phase: "none" };
    this.gpuBytes = 0;
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
