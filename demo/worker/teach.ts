import type { Engine } from "../../src/index.ts";
import { HeedError } from "../../src/index.ts";
import type { TaughtFiles, TaughtKind, TeachOutcome, TeachReport, TeachRequest } from "../protocol.ts";
import type { Models } from "./models.ts";
import { openRun, type Run } from "./teach_runs.ts";

type Files = Iterable<readonly [string, readonly Uint8Array[] | string]>;

/** What ends a training, and what it tells. */
export interface TeachWatch {
  readonly signal: AbortSignal;
  onReport(report: TeachReport): void;
}

/** A training in the tab: one at a time, kept until another begins, so that it can go on, and its model be saved and tried. */
export class Teacher {
  #run: Run | undefined;
  #adapter: TaughtFiles | undefined;
  #files: TaughtFiles | undefined;

  /** Trains on what the request holds until its steps are done or the signal fires; what was learnt stays. */
  async teach(engine: Engine, models: Models, request: TeachRequest, watch: TeachWatch): Promise<TeachOutcome> {
    await this.dispose();
    const run = await openRun(engine, models, request);
    this.#run = run;
    watch.onReport({ step: 0, sample: await run.sample(), attention: await run.attention() });
    return this.#train(run, watch);
  }

  /** Goes on with what was stopped. */
  async goOn(watch: TeachWatch): Promise<TeachOutcome> {
    const run = this.#run;
    if (!run || (run.base !== undefined && this.#files)) {
      throw new HeedError("USAGE", "teach: nothing is there to go on with. Teach first; a saved model is done.");
    }
    this.#adapter = undefined;
    this.#files = undefined;
    return this.#train(run, watch);
  }

  /** What was taught, as files of the Hub's or of PEFT's format. */
  async files(kind: TaughtKind): Promise<TaughtFiles> {
    const run = this.#run;
    // The adapter first: saving the whole model merges it.
    if (run?.base !== undefined && !this.#files) this.#adapter ??= blobs(await run.adapterFiles(run.base));
    if (kind === "model") this.#files ??= run && blobs(await run.files());
    const files = kind === "model" ? this.#files : this.#adapter;
    if (!files) throw new HeedError("USAGE", `teach: nothing was taught that could be saved as ${kind}. Teach first.`);
    return files;
  }

  async dispose(): Promise<void> {
    const old = this.#run;
    this.#run = undefined;
    this.#adapter = undefined;
    this.#files = undefined;
    await old?.dispose();
  }

  async #train(run: Run, { signal, onReport }: TeachWatch): Promise<TeachOutcome> {
    const { sampleEvery, steps } = run.request;
    for await (const progress of run) {
      const { step, loss, validationLoss, tokens, elapsedMs, learningRate } = progress;
      const due = step % sampleEvery === 0 || step === steps;
      onReport({
        ...{ step, loss, validationLoss, learningRate, tokensPerSecond: (1000 * tokens) / elapsedMs },
        ...(due ? { sample: await run.sample(), attention: await run.attention() } : {}),
      });
      // Lets the page's messages in between two updates.
      await new Promise((resolve) => setTimeout(resolve));
      if (signal.aborted) break;
    }
    const step = run.stepsDone();
    if (step % sampleEvery !== 0 && step !== steps)
      onReport({ step, sample: await run.sample(), attention: await run.attention() });
    return { stopped: signal.aborted, unfinished: step < steps };
  }
}

function blobs(files: Files): TaughtFiles {
  return [...files].map(([name, parts]) => ({
    name,
    blob: new Blob(typeof parts === "string" ? [parts] : parts.map((part) => new Uint8Array(part))),
  }));
}
