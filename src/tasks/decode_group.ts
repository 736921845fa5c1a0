import { invariant } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { NO_SLOT } from "../nn/step.ts";
import { packSampling, RING_STEPS, SAMPLING_WORDS, sampleToken, seenWords } from "../ops/sample.ts";
import type { Plan } from "../program/replay.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import type { GenerationTask } from "./generation.ts";

/** Most steps of one burst: what a staging buffer holds. */
export const MAX_BURST = 8;

/** Staging buffers: one being read, one being written, one free. */
const STAGING_BUFFERS = 3;

/** Steps that were submitted together; `tokens` is `[steps][rows]`. */
export interface Burst {
  readonly steps: number;
  readonly rows: number;
  readonly startedAt: number;
  readonly tokens: Promise<Uint32Array>;
}

/**
 * A decode step for a fixed number of rows: the plan and the states that stay on the GPU between replays (token,
 * place, random state and ring of each row). A step is one submit with one pass, and allocates nothing.
 */
export class DecodeGroup {
  readonly rows: number;
  readonly plan: Plan;
  readonly #device: Device;
  readonly #runtime: DecoderRuntime;
  readonly #states: DecodeStates;
  readonly #staging: GPUBuffer[] = [];
  readonly #free: GPUBuffer[] = [];
  #step = 0;

  private constructor(runtime: DecoderRuntime, rows: number, plan: Plan, states: DecodeStates) {
    this.#runtime = runtime;
    this.#device = runtime.device;
    this.rows = rows;
    this.plan = plan;
    this.#states = states;
    for (let i = 0; i < STAGING_BUFFERS; i++) {
      const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
      this.#staging.push(this.#device.createBuffer(`decode ${rows}.staging${i}`, MAX_BURST * rows * 4, usage));
    }
    this.#free.push(...this.#staging);
  }

  static async create(runtime: DecoderRuntime, rows: number, mode: "greedy" | "sample"): Promise<DecodeGroup> {
    const states = new DecodeStates(runtime, rows);
    try {
      const plan = await runtime.plan(`decode ${rows} ${mode}`, (rec) => {
        const tokens = rec.state(states.tokens);
        const rowTable = rec.state(states.rowTable);
        const step = runtime.record(rec, rows, { tokens, rowTable });
        const logits = step.logits(step.hidden);
        sampleToken(
          rec,
          { logits, rowTable, tokens, ring: rec.state(states.ring), step: rec.state(states.step), seen: rec.state(states.seen), sampling: rec.state(states.sampling) },
          { mode },
        );
      });
      return new DecodeGroup(runtime, rows, plan, states);
    } catch (error) {
      states.dispose();
      throw error;
    }
  }

  /** Gives each task a row: its last token, its place, and how to draw. Rows left over hold no token. */
  seat(tasks: readonly GenerationTask[]): void {
    invariant(tasks.length <= this.rows, `${tasks.length} tasks for ${this.rows} rows`);
    const { vocabSize } = this.#runtime.decoder.facts;
    const tokens = new Uint32Array(this.rows);
    const rowTable = new Uint32Array(this.rows * 2).fill(NO_SLOT);
    const sampling = new Uint32Array(this.rows * SAMPLING_WORDS);
    const seen = new Uint32Array(this.rows * seenWords(vocabSize));
    tasks.forEach((task, row) => {
      tokens[row] = task.ids.at(-1) ?? 0;
      rowTable.set([task.sequence.slot, task.ids.length - 1], row * 2);
      sampling.set(packSampling(task.options), row * SAMPLING_WORDS);
      const base = row * seenWords(vocabSize);
      for (const id of task.ids) seen[base + (id >> 5)] = ((seen[base + (id >> 5)] ?? 0) | (1 << (id & 31))) >>> 0;
    });
    const write = (tensor: Tensor, data: Uint32Array) => tensor.write(0, new Uint8Array(data.buffer));
    write(this.#states.tokens, tokens);
    write(this.#states.rowTable, rowTable);
    write(this.#states.sampling, sampling);
    write(this.#states.seen, seen);
  }

  /** Submits `steps` steps; `keys` is the longest sequence at the first of them, its own token counted. */
  submit(steps: number, keys: number): Burst {
    const staging = this.#free.pop();
    invariant(staging && steps >= 1 && steps <= MAX_BURST, `a burst of ${steps} steps with ${this.#free.length} staging buffers`);
    const startedAt = performance.now();
    for (let i = 0; i < steps; i++) {
      const from = (this.#step % RING_STEPS) * this.rows * 4;
      this.plan.replay({ keys: keys + i, rows: this.rows }, (encoder) => {
        encoder.copyBufferToBuffer(this.#states.ringBuffer, from, staging, i * this.rows * 4, this.rows * 4);
      });
      this.#step++;
    }
    return { steps, rows: this.rows, startedAt, tokens: this.#readStaging(staging, steps) };
  }

  dispose(): void {
    for (const buffer of this.#staging) this.#device.destroyBuffer(buffer);
    this.#states.dispose();
    this.plan.dispose();
  }

  async #readStaging(staging: GPUBuffer, steps: number): Promise<Uint32Array> {
    await this.#device.guard(staging.mapAsync(GPUMapMode.READ));
    const tokens = new Uint32Array(staging.getMappedRange(0, steps * this.rows * 4).slice(0));
    staging.unmap();
    this.#free.push(staging);
    this.#device.check();
    return tokens;
  }
}

/** What a decode step reads and writes on the GPU, row by row. */
class DecodeStates {
  readonly tokens: Tensor;
  readonly rowTable: Tensor;
  readonly ring: Tensor;
  readonly step: Tensor;
  readonly seen: Tensor;
  readonly sampling: Tensor;
  readonly #all: Tensor[] = [];

  constructor({ device, decoder }: DecoderRuntime, rows: number) {
    const make = (name: string, shape: number[]) => {
      const tensor = Tensor.create(device, `decode ${rows}.${name}`, shape, "u32");
      this.#all.push(tensor);
      return tensor;
    };
    try {
      this.tokens = make("tokens", [rows]);
      this.rowTable = make("row_table", [rows, 2]);
      this.ring = make("ring", [RING_STEPS, rows]);
      this.step = make("step", [1]);
      this.seen = make("seen", [rows, seenWords(decoder.facts.vocabSize)]);
      this.sampling = make("sampling", [rows, SAMPLING_WORDS]);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get ringBuffer(): GPUBuffer {
    const [part] = this.ring.parts;
    invariant(part, "the token ring has no buffer");
    return part.buffer;
  }

  dispose(): void {
    for (const t of this.#all) t.dispose();
  }
}
