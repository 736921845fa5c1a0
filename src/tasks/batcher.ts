import { HeedError, isHeedError } from "../core/errors.ts";
import type { DispatchTime } from "../program/profile.ts";
import type { AdaptedModel } from "./adapters.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { joinRequests } from "../inspect/attention_request.ts";
import { type Burst, type BurstResult, DecodeGroup, type GroupMode, MAX_BURST, SlotStates } from "./decode_group.ts";
import { tokenLogprobs } from "./logprobs.ts";
import { encodeSources, type GenerationTask, prefillPrompt } from "./generation.ts";
import { groupRows, MOST_ROWS } from "./group_rows.ts";
import { hasRules, sameRulesFor } from "./token_rules.ts";

/** Bursts on the GPU at once: one runs while the host reads the one before. */
const MAX_PENDING = 2;

/** How long a burst should take, so that text arrives smoothly and an abort is heard soon. */
const BURST_MS = 40;

/**
 * Decodes all running generations together: each step is one replay over a row per generation. New ones are prefilled
 * and join between bursts, finished ones leave. Requests never mix: a row knows its slot, its position and its seed.
 */
export class Batcher {
  readonly #runtime: DecoderRuntime;
  readonly #slots: SlotStates;
  readonly #groups = new Map<string, Promise<DecodeGroup>>();
  readonly #waiting: GenerationTask[] = [];
  readonly #active: GenerationTask[] = [];
  #running: Promise<void> | undefined;
  /** Cleared in the same turn in which the loop finds nothing left, so that no task falls between. */
  #looping = false;
  /** Set by {@link dispose}: what everything that still runs fails with. */
  #ended: HeedError | undefined;
  /** The first waiting task lacks pages of the cache; nothing is admitted until a running one ends. */
  #blocked = false;
  /** Set while a step is profiled: the loop waits for it. */
  #pause: Promise<unknown> | undefined;
  /** Steps of a burst, from the time that the last ones took. */
  #burst = 1;

  constructor(runtime: DecoderRuntime) {
    this.#runtime = runtime;
    this.#slots = new SlotStates(runtime);
  }

  /** Adds a generation; its text comes through {@link GenerationTask.next}. */
  add(task: GenerationTask): void {
    if (this.#ended) throw this.#ended;
    this.#waiting.push(task);
    if (!this.#looping) this.#running = this.#run();
  }

  /** True while a generation runs or waits. */
  get isBusy(): boolean {
    return this.#looping || this.#pause !== undefined;
  }

  /** Frees the plans of all groups; the next generations record them anew. Nothing may be running. */
  async forgetPlans(): Promise<void> {
    const groups = [...this.#groups.values()];
    this.#groups.clear();
    for (const group of await Promise.allSettled(groups)) if (group.status === "fulfilled") group.value.dispose();
  }

  /** Ends what is running with `DISPOSED`, then frees the GPU memory. */
  async dispose(): Promise<void> {
    this.#ended = new HeedError("DISPOSED", "generate: the model was disposed. Load it again.");
    await this.#running;
    for (const group of await Promise.allSettled(this.#groups.values())) {
      if (group.status === "fulfilled") group.value.dispose();
    }
    this.#slots.dispose();
  }

  /** Time of each dispatch of one decode step with `keys` tokens in the cache. Throws `USAGE` while something runs. */
  async profileStep(keys: number): Promise<DispatchTime[]> {
    const group = await this.#group(1, { sampling: "greedy" });
    if (this.#looping || this.#pause)
      throw new HeedError("USAGE", "profile: a generation is running. Wait for its result first.");
    const sequence = this.#runtime.cache.open();
    try {
      sequence.reserve(keys);
      const times = group.profile(sequence.slot, keys);
      this.#pause = times.catch(() => {});
      return await times;
    } finally {
      this.#pause = undefined;
      sequence.dispose();
    }
  }

  /** The plan of a decode step for so many sequences. */
  async describeStep(rows: number) {
    return (await this.#group(rows, { sampling: "greedy" })).plan.describe();
  }

  async #run(): Promise<void> {
    this.#looping = true;
    while (this.#waiting.length > 0 || this.#active.length > 0) {
      try {
        await this.#pause;
        if (this.#ended) throw this.#ended;
        await this.#admit();
        if (this.#active.length > 0) await this.#decode();
      } catch (error) {
        this.#failAll(error);
      }
    }
    this.#looping = false;
  }

  /** Prefills what waits, as far as there are rows for it. The last token of a prompt is left to the first decode step. */
  async #admit(): Promise<void> {
    this.#dropEnded();
    await this.#encodeWaiting();
    while (this.#canAdmit()) {
      const task = this.#waiting.shift() as GenerationTask;
      try {
        this.#reserveWhole(task);
        await prefillPrompt(this.#runtime, task);
        task.sequence.reserve(1);
        this.#slots.prepare(task);
        this.#active.push(task);
      } catch (error) {
        if (isHeedError(error, "LIMIT") && this.#active.length > 0) {
          // The pages that it lacks come free when another ends.
          this.#waiting.unshift(task);
          this.#blocked = true;
          return;
        }
        if (isHeedError(error, "ABORTED")) task.end("abort");
        else task.fail(error);
        task.settle();
      }
    }
  }

  /** Encodes the sources of tasks that are about to be admitted together. What fails here fails with its own task later. */
  async #encodeWaiting(): Promise<void> {
    if (!this.#runtime.memory || !this.#canAdmit()) return;
    const next = this.#waiting.slice(0, MOST_ROWS - this.#active.length);
    const tasks = next.filter((t) => t.encoderIds && !t.aborted);
    if (tasks.length < 2) return;
    try {
      await encodeSources(this.#runtime, tasks);
    } catch (error) {
      if (!isHeedError(error, "LIMIT")) throw error;
    }
  }

  /** Runs bursts until a task joins or leaves. */
  async #decode(): Promise<void> {
    const tasks = [...this.#active];
    const greedy = tasks.every((t) => t.options.temperature === 0);
    const logprobs = tasks.flatMap((t) => t.options.logprobs ?? []);
    const mode: GroupMode = {
      sampling: greedy ? "greedy" : "sample",
      logprobs: logprobs.length > 0 ? Math.max(...logprobs) : undefined,
      isRuled: tasks.some((t) => hasRules(t.options.rules)),
    };
    const attention = joinRequests(tasks.flatMap((t) => t.attention?.request ?? []));
    const group = attention
      ? await DecodeGroup.create(this.#runtime, this.#slots, groupRows(tasks.length), { ...mode, attention })
      : await this.#group(tasks.length, mode);
    const pending: Burst[] = [];
    try {
      group.seat(tasks);
      for (;;) {
        const changed =
          this.#ended !== undefined || this.#canAdmit() || this.#endAborted(tasks) || tasks.some((t) => t.finish);
        const steps = changed
          ? 0
          : Math.min(group.maxSteps, this.#stepsLeft(tasks, pending), ruledSteps(mode, tasks, pending));
        if (steps > 0 && this.#reserve(tasks, steps, pending)) pending.push(this.#submit(group, tasks, steps, pending));
        if (steps === 0 && pending.length === 0) break;
        if (steps === 0 || pending.length >= MAX_PENDING)
          this.#deliver(group, await (pending[0] as Burst).result, tasks, pending.shift() as Burst);
      }
    } finally {
      await Promise.allSettled(pending.map((b) => b.result));
      // What captures is made for these tasks and freed with them, so that others pay nothing for it.
      if (attention) group.dispose();
      this.#release(tasks);
    }
  }

  #submit(group: DecodeGroup, tasks: readonly GenerationTask[], steps: number, pending: readonly Burst[]): Burst {
    const ahead = stepsAhead(pending);
    const keys = Math.max(...tasks.map((t) => t.sequence.length)) + ahead + 1;
    if (ahead === 0) group.applyRules(tasks);
    return group.submit(steps, keys);
  }

  /** Takes the pages of all tokens that a task may come to. Alone, a task may start with fewer than that. */
  #reserveWhole({ sequence, ids, maxTokens }: GenerationTask): void {
    try {
      sequence.reserve(ids.length + maxTokens - 1 - sequence.length);
    } catch (error) {
      if (this.#active.length > 0) throw error;
    }
  }

  /** Makes room for the next burst. A task for which there are no pages fails alone; false if one did. */
  #reserve(tasks: readonly GenerationTask[], steps: number, pending: readonly Burst[]): boolean {
    for (const task of tasks) {
      try {
        task.sequence.reserve(stepsAhead(pending) + steps);
      } catch (error) {
        task.fail(error);
      }
    }
    return tasks.every((t) => !t.finish);
  }

  /** True if a waiting task could be prefilled now. */
  #canAdmit(): boolean {
    return this.#waiting.length > 0 && this.#active.length < MOST_ROWS && !this.#blocked;
  }

  /** Steps of the next burst: no row may run past its own limit. */
  #stepsLeft(tasks: readonly GenerationTask[], pending: readonly Burst[]): number {
    const ahead = stepsAhead(pending);
    return Math.min(this.#burst, ...tasks.map((t) => t.maxTokens - t.generatedTokens - ahead));
  }

  #deliver(group: DecodeGroup, result: BurstResult, tasks: readonly GenerationTask[], burst: Burst): void {
    const { tokens } = result;
    const stepMs = (performance.now() - burst.startedAt) / burst.steps;
    this.#burst = Math.min(MAX_BURST, Math.max(1, Math.floor(BURST_MS / stepMs)));
    for (let step = 0; step < burst.steps; step++) {
      tasks.forEach((task, row) => {
        if (task.aborted) task.end("abort");
        if (task.finish) return;
        const id = tokens[step * burst.rows + row] as number;
        try {
          if (group.attention) task.attention?.take(group.attention, result, row, task);
          if (task.options.logprobs !== undefined && result.logprobs) {
            task.logprobs.push(tokenLogprobs(result.logprobs, row, task.options.logprobs));
          }
        } catch (error) {
          // The caller's callback threw: that is its generation's end, and no other's.
          task.fail(error);
          return;
        }
        if (id < this.#runtime.decoder.facts.vocabSize) task.accept(id);
        else
          task.fail(
            new HeedError(
              "INTERNAL",
              "generate: the model's logits are not numbers (NaN or infinite). Try dtype f32, and `heed doctor`.",
            ),
          );
      });
    }
  }

  #endAborted(tasks: readonly GenerationTask[]): boolean {
    for (const t of tasks) if (t.aborted) t.end("abort");
    return tasks.some((t) => t.aborted);
  }

  /** Lets waiting tasks go that were aborted or failed before their turn. */
  #dropEnded(): void {
    for (const task of [...this.#waiting]) {
      if (task.aborted) task.end("abort");
      if (!task.finish) continue;
      this.#waiting.splice(this.#waiting.indexOf(task), 1);
      task.settle();
    }
  }

  /** Lets ended tasks go, now that none of their steps is on the GPU. */
  #release(tasks: readonly GenerationTask[]): void {
    for (const task of tasks) {
      if (!task.finish) continue;
      this.#active.splice(this.#active.indexOf(task), 1);
      this.#blocked = false;
      // Gives back the pages of tokens that never came.
      task.sequence.rewind(task.sequence.length);
      task.settle();
    }
  }

  #failAll(error: unknown): void {
    for (const task of [...this.#active.splice(0), ...this.#waiting.splice(0)]) {
      task.fail(error);
      task.settle();
    }
  }

  #group(tasks: number, mode: GroupMode): Promise<DecodeGroup> {
    const rows = groupRows(tasks);
    const key = `${mode.sampling} ${rows} ${mode.logprobs ?? "none"}${mode.isRuled ? " with rules" : ""}`;
    let group = this.#groups.get(key);
    if (!group) {
      group = DecodeGroup.create(this.#runtime, this.#slots, rows, mode);
      this.#groups.set(key, group);
      group.catch(() => this.#groups.delete(key));
    }
    return group;
  }
}

function stepsAhead(pending: readonly Burst[]): number {
  return pending.reduce((n, b) => n + b.steps, 0);
}

/** Steps for which the tokens' rules stay as they are; none while tokens that they depend on are still to come. */
function ruledSteps(mode: GroupMode, tasks: readonly GenerationTask[], pending: readonly Burst[]): number {
  if (!mode.isRuled) return MAX_BURST;
  const same = Math.min(...tasks.map((t) => sameRulesFor(t.options.rules, t.ruled))) - stepsAhead(pending);
  return pending.length > 0 ? Math.max(0, same) : same;
}

/** What adapters need to know of a decoder that generates. */
export function adaptedDecoder(runtime: DecoderRuntime, batcher: Batcher): AdaptedModel {
  const { decoder: model, weights } = runtime;
  return {
    ...{ model, weights, tree: weights.tree },
    checkIdle(what) {
      if (!batcher.isBusy) return;
      throw new HeedError("USAGE", `${what}: a generation is running. Wait for its result first.`);
    },
    async forgetPlans() {
      await batcher.forgetPlans();
      await runtime.forgetPlans();
    },
  };
}
