import { invariant } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { AttentionKind } from "../nn/dense_step.ts";
import { type CachedStepParts, NO_SLOT } from "../nn/step.ts";
import {
  packSampling,
  packSeen,
  ringIndex,
  ringLength,
  SAMPLING_WORDS,
  sampleToken,
  seenWords,
} from "../ops/sample.ts";
import { banTokens, topTokens } from "../ops/token_choice.ts";
import type { DispatchTime } from "../program/profile.ts";
import { type AttentionOutput, AttentionTap, outputBytes } from "../inspect/attention_tap.ts";
import type { ResolvedAttention } from "../inspect/attention_request.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import type { EncoderMemory } from "./encoder_memory.ts";
import type { GenerationTask } from "./generation.ts";
import { nextTokens, packBanned } from "./token_rules.ts";

/** Most steps of one burst: what a staging buffer holds. */
export const MAX_BURST = 8;

/** Staging buffers: one being read, one being written, one free. */
const STAGING_BUFFERS = 3;

/** What came back of a burst: tokens `[steps][rows]`, and what was captured of its only step. */
export interface BurstResult {
  readonly tokens: Uint32Array;
  /** `[rows, 1 + ranks, 2]`, as `topTokens` writes it, where log-probabilities are asked for. */
  readonly logprobs: { readonly words: Uint32Array<ArrayBuffer>; readonly ranks: number } | undefined;
  /** The elements of an output of {@link DecodeGroup.attention}. */
  attention(output: AttentionOutput): ArrayBuffer;
}

/** Steps that were submitted together. */
export interface Burst {
  readonly steps: number;
  readonly rows: number;
  readonly startedAt: number;
  readonly result: Promise<BurstResult>;
}

/** How a group draws, and whose attention it captures: that is part of its plan, and costs the others nothing. */
export interface GroupMode {
  readonly sampling: "greedy" | "sample";
  readonly attention?: ResolvedAttention;
  /** Log-probabilities of the tokens, and of so many others; undefined for none. */
  readonly logprobs?: number | undefined;
  /** Some tokens are banned by the host, row by row. */
  readonly isRuled?: boolean;
}

/**
 * A decode step for a fixed number of rows: the plan and the states that stay on the GPU between replays (token,
 * place, random state and ring of each row). A step is one submit with one pass, and allocates nothing.
 */
export class DecodeGroup {
  readonly rows: number;
  readonly plan: Plan;
  /** Set where attention is captured; a burst has one step then. */
  readonly attention: AttentionTap | undefined;
  readonly #device: Device;
  readonly #states: RowStates;
  readonly #mode: GroupMode;
  readonly #vocabSize: number;
  readonly #staging: GPUBuffer[] = [];
  readonly #free: GPUBuffer[] = [];
  readonly #memory: EncoderMemory | undefined;
  /** Tokens of the longest source that the rows attend to. */
  #sourceKeys = 0;
  #step = 0;

  private constructor(
    runtime: DecoderRuntime,
    rows: number,
    plan: Plan,
    { states, mode, attention }: { states: RowStates; mode: GroupMode; attention: AttentionTap | undefined },
  ) {
    this.#device = runtime.device;
    this.#memory = runtime.memory;
    this.#mode = mode;
    this.#vocabSize = runtime.decoder.facts.vocabSize;
    this.rows = rows;
    this.plan = plan;
    this.#states = states;
    this.attention = attention;
    attention?.prepare(plan);
    const bytes = this.#offsetOf(undefined) + this.#logprobBytes;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    try {
      for (let i = 0; i < STAGING_BUFFERS; i++) {
        this.#staging.push(this.#device.createBuffer(`decode ${rows}.staging${i}`, bytes, usage));
      }
    } catch (error) {
      for (const buffer of this.#staging) this.#device.destroyBuffer(buffer);
      throw error;
    }
    this.#free.push(...this.#staging);
  }

  static async create(runtime: DecoderRuntime, slots: SlotStates, rows: number, mode: GroupMode): Promise<DecodeGroup> {
    const { device } = runtime;
    const states = new RowStates(device, rows);
    let planned: Plan | undefined;
    try {
      const rec = new ProgramRecorder(`decode ${rows} ${mode.sampling}`);
      const limits = { op: "generate", maxBytes: device.raw.limits.maxStorageBufferBindingSize };
      const tap = mode.attention && new AttentionTap(rec, mode.attention, limits);
      recordStep(rec, runtime, { rows, slots, states, mode, tap });
      planned = await plan(device, rec, { rows: "few" });
      return new DecodeGroup(runtime, rows, planned, { states, mode, attention: tap });
    } catch (error) {
      planned?.dispose();
      states.dispose();
      throw error;
    }
  }

  /** Gives each task a row: its last token and its place. Rows left over hold no token. */
  seat(tasks: readonly GenerationTask[]): void {
    invariant(tasks.length <= this.rows, `${tasks.length} tasks for ${this.rows} rows`);
    const tokens = new Uint32Array(this.rows);
    const rowTable = new Uint32Array(this.rows * 2).fill(NO_SLOT);
    tasks.forEach((task, row) => {
      tokens[row] = task.ids.at(-1) ?? 0;
      rowTable.set([task.sequence.slot, task.ids.length - 1], row * 2);
    });
    this.#states.tokens.write(0, new Uint8Array(tokens.buffer));
    this.#states.rowTable.write(0, new Uint8Array(rowTable.buffer));
    const sequences = tasks.map((task) => task.sequence);
    this.#sourceKeys = this.#memory?.place(this.plan, sequences, this.rows) ?? 0;
  }

  /** Most steps of one burst. */
  get maxSteps(): number {
    return this.attention || this.#mode.logprobs !== undefined ? 1 : MAX_BURST;
  }

  /** Bans what the tasks' rules ban in the next steps; rows are those of {@link seat}. */
  applyRules(tasks: readonly GenerationTask[]): void {
    if (!this.#mode.isRuled) return;
    const words = seenWords(this.#vocabSize);
    const banned = new Uint32Array(this.rows * words);
    tasks.forEach((task, row) => {
      banned.set(packBanned(nextTokens(task.options.rules, task.ruled), this.#vocabSize), row * words);
    });
    this.plan.write("banned", banned);
  }

  /** Submits `steps` steps; `keys` is the longest sequence at the first of them, its own token counted. */
  submit(steps: number, keys: number): Burst {
    const staging = this.#free.pop();
    invariant(
      staging && steps >= 1 && steps <= this.maxSteps,
      `a burst of ${steps} steps with ${this.#free.length} staging buffers`,
    );
    const startedAt = performance.now();
    for (let i = 0; i < steps; i++) {
      const from = ringIndex(this.#step, 0, this.rows) * 4;
      this.plan.replay({ keys: Math.max(keys + i, this.#sourceKeys), rows: this.rows }, (encoder) => {
        encoder.copyBufferToBuffer(this.#states.ringBuffer, from, staging, i * this.rows * 4, this.rows * 4);
        for (const output of this.attention?.outputs ?? []) {
          const { buffer, offset } = this.plan.outputRange(output.name);
          encoder.copyBufferToBuffer(buffer, offset, staging, this.#offsetOf(output), outputBytes(output));
        }
        if (this.#logprobBytes > 0) {
          const { buffer, offset } = this.plan.outputRange("logprobs");
          encoder.copyBufferToBuffer(buffer, offset, staging, this.#offsetOf(undefined), this.#logprobBytes);
        }
      });
      this.#step++;
    }
    return { steps, rows: this.rows, startedAt, result: this.#readStaging(staging, steps) };
  }

  /** Times a step of one row whose token is the last of `keys`; its result is thrown away. */
  async profile(slot: number, keys: number): Promise<DispatchTime[]> {
    this.#states.tokens.write(0, new Uint8Array(4 * this.rows));
    const rowTable = new Uint32Array(this.rows * 2).fill(NO_SLOT);
    rowTable.set([slot, keys - 1]);
    this.#states.rowTable.write(0, new Uint8Array(rowTable.buffer));
    // The sampler counts its steps on the GPU, this one too.
    this.#step++;
    return this.plan.profile({ keys, rows: this.rows });
  }

  dispose(): void {
    for (const buffer of this.#staging) this.#device.destroyBuffer(buffer);
    this.#states.dispose();
    this.plan.dispose();
  }

  /** Bytes of the log-probabilities, which come last in a staging buffer. */
  get #logprobBytes(): number {
    return this.#mode.logprobs === undefined ? 0 : this.rows * (1 + this.#mode.logprobs) * 8;
  }

  /** Where an output stands in a staging buffer; without one, where they end. */
  #offsetOf(wanted: AttentionOutput | undefined): number {
    let at = MAX_BURST * this.rows * 4;
    for (const output of this.attention?.outputs ?? []) {
      if (output === wanted) return at;
      at += outputBytes(output);
    }
    return at;
  }

  async #readStaging(staging: GPUBuffer, steps: number): Promise<BurstResult> {
    await this.#device.guard(staging.mapAsync(GPUMapMode.READ));
    const bytes = staging.getMappedRange(0, this.maxSteps === 1 ? undefined : steps * this.rows * 4).slice(0);
    staging.unmap();
    this.#free.push(staging);
    this.#device.check();
    return {
      tokens: new Uint32Array(bytes, 0, steps * this.rows),
      logprobs:
        this.#mode.logprobs === undefined
          ? undefined
          : { words: new Uint32Array(bytes, this.#offsetOf(undefined)), ranks: this.#mode.logprobs },
      attention: (output) => bytes.slice(this.#offsetOf(output), this.#offsetOf(output) + outputBytes(output)),
    };
  }
}

/** Records a decode step: forward pass, capture if there is any, logits, sampling. */
function recordStep(
  rec: ProgramRecorder,
  runtime: DecoderRuntime,
  { rows, slots, states, mode, tap }: StepParts,
): void {
  const tokens = rec.state(states.tokens);
  const rowTable = rec.state(states.rowTable);
  const watch = (kind: AttentionKind): CachedStepParts["onAttendMemory"] =>
    tap && ((_, inputs, cache) => tap.recordPaged(kind, inputs, cache));
  const watches = { onAttend: watch("self"), onAttendMemory: watch("memory") };
  const step = runtime.record(rec, rows, { tokens, rowTable, ...watches });
  const logits = step.logits(step.hidden);
  const ring = rec.state(states.ring);
  const seen = rec.state(slots.seen);
  const sampling = rec.state(slots.sampling);
  const words = seenWords(runtime.decoder.facts.vocabSize);
  const allowed = mode.isRuled ? banTokens(rec, { logits, banned: rec.input("banned", [rows, words], "u32") }) : logits;
  sampleToken(rec, { logits: allowed, rowTable, tokens, ring, seen, sampling }, { mode: mode.sampling });
  if (mode.logprobs !== undefined) {
    rec.output("logprobs", topTokens(rec, { logits, chosen: tokens }, { top: mode.logprobs }));
  }
}

interface StepParts {
  readonly rows: number;
  readonly slots: SlotStates;
  readonly states: RowStates;
  readonly mode: GroupMode;
  readonly tap: AttentionTap | undefined;
}

/** What a decode step reads and writes, row by row. */
class RowStates {
  readonly tokens: Tensor;
  readonly rowTable: Tensor;
  readonly ring: Tensor;

  constructor(device: Device, rows: number) {
    const make = (name: string, shape: number[]) => Tensor.create(device, `decode ${rows}.${name}`, shape, "u32");
    this.tokens = make("tokens", [rows]);
    this.rowTable = make("row_table", [rows, 2]);
    this.ring = make("ring", [ringLength(rows)]);
  }

  get ringBuffer(): GPUBuffer {
    const [part] = this.ring.parts;
    invariant(part, "the token ring has no buffer");
    return part.buffer;
  }

  dispose(): void {
    for (const t of [this.tokens, this.rowTable, this.ring]) t.dispose();
  }
}

/** How each sequence draws and which tokens it has seen, by its slot; shared by all decode groups of a model. */
export class SlotStates {
  readonly seen: Tensor;
  readonly sampling: Tensor;
  readonly #vocabSize: number;

  constructor({ device, decoder, cache }: DecoderRuntime) {
    this.#vocabSize = decoder.facts.vocabSize;
    const slots = cache.shape.maxSequences;
    this.seen = Tensor.create(device, "decode.seen", [slots, seenWords(this.#vocabSize)], "u32");
    try {
      this.sampling = Tensor.create(device, "decode.sampling", [slots, SAMPLING_WORDS], "u32");
    } catch (error) {
      this.seen.dispose();
      throw error;
    }
  }

  /** Prepares a task's slot before its first step. */
  prepare({ sequence: { slot }, ids, options }: GenerationTask): void {
    this.sampling.write(slot * SAMPLING_WORDS * 4, new Uint8Array(packSampling(options).buffer));
    this.seen.write(slot * seenWords(this.#vocabSize) * 4, new Uint8Array(packSeen(ids, this.#vocabSize).buffer));
  }

  dispose(): void {
    this.seen.dispose();
    this.sampling.dispose();
  }
}
