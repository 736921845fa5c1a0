import { HeedError, invariant, throwIfAborted } from "../core/errors.ts";
import { Tensor } from "../gpu/tensor.ts";
import { mapLeaves, type WeightTree } from "../models/family.ts";
import type { SoundFeatures, Speech } from "../models/speech_family.ts";
import { denseStep } from "../nn/dense_step.ts";
import type { CachedSequence } from "../nn/kv_cache.ts";
import { kvAppend } from "../ops/kv_append.ts";
import type { Value } from "../ops/op.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";

/** Plans that are kept: each has the intermediates of a chunk of one length. */
const MOST_PLANS = 2;

/**
 * Encodes chunks of sound, one at a time and each at its own length: the front ends norm over whole chunks, so that padding
 * would be heard.
 */
export class SpeechEncoder {
  readonly #runtime: DecoderRuntime;
  readonly #model: Speech;
  readonly #plans = new Map<string, Plan>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(runtime: DecoderRuntime, model: Speech) {
    this.#runtime = runtime;
    this.#model = model;
  }

  /** Keys and values of a chunk for every layer of the decoder, in the runtime's memory; the caller disposes the sequence. */
  encode(features: SoundFeatures, signal?: AbortSignal): Promise<CachedSequence> {
    return this.#inTurn(async () => {
      throwIfAborted(signal, "transcribe");
      const rows = this.#rows(features);
      const { memory } = this.#runtime;
      invariant(memory, "a model of speech without a memory");
      const sequence = memory.cache.open();
      try {
        sequence.reserve(rows);
        const planned = await this.#plan("encode", features, (rec, encoded, { tree, rowTable }) => {
          const { kvHeads, headDim } = this.#model.facts;
          const pageTable = rec.state(memory.cache.pageTable);
          this.#model.memory(rec, tree, encoded).forEach(({ k, v }, layer) => {
            const pool = memory.cache.pools[layer];
            invariant(pool, `no memory for layer ${layer}`);
            kvAppend(rec, { k, v, kv: rec.state(pool), rowTable, pageTable }, { kvHeads, headDim });
          });
        });
        this.#write(planned, features, sequence.slot);
        await planned.run({}, { signal });
        sequence.advance(rows);
        return sequence;
      } catch (error) {
        sequence.dispose();
        throw error;
      }
    });
  }

  /** The encoder's rows for a chunk, `[rows][C]` in one array. */
  rows(features: SoundFeatures, signal?: AbortSignal): Promise<Float32Array> {
    return this.#inTurn(async () => {
      throwIfAborted(signal, "transcribe");
      const planned = await this.#plan("rows", features, (rec, encoded) => void rec.output("encoded", encoded));
      this.#write(planned, features, 0);
      await planned.run({}, { signal });
      return new Float32Array(await planned.readOutput("encoded"));
    });
  }

  /** Frees the plans, once nothing runs. */
  async dispose(): Promise<void> {
    await this.#turn;
    for (const planned of this.#plans.values()) planned.dispose();
    this.#plans.clear();
  }

  #rows({ shape }: SoundFeatures): number {
    const rows = this.#model.sound.encodedRows(shape[0] ?? 0);
    const most = this.#model.facts.encoder.contextLength;
    if (rows >= 1 && rows <= most) return rows;
    throw new HeedError("LIMIT", `transcribe: the encoder takes 1 to ${most} frames at once; got ${rows}.`);
  }

  #write(planned: Plan, features: SoundFeatures, slot: number): void {
    const rows = this.#rows(features);
    planned.write("features", features.data);
    planned.write(
      "row_table",
      Uint32Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? slot : (i - 1) / 2)),
    );
  }

  /** The plan for features of that shape; the one that was used longest ago makes room. */
  async #plan(kind: string, features: SoundFeatures, finish: Finish): Promise<Plan> {
    const name = `${kind} ${features.shape.join("×")}`;
    let planned = this.#plans.get(name);
    if (planned) {
      this.#plans.delete(name);
    } else {
      for (const [oldest, old] of this.#plans) {
        if (this.#plans.size < MOST_PLANS) break;
        this.#plans.delete(oldest);
        old.dispose();
      }
      const rec = new ProgramRecorder(name);
      this.#record(rec, features, finish);
      planned = await plan(this.#runtime.device, rec);
    }
    this.#plans.set(name, planned);
    return planned;
  }

  #record(rec: ProgramRecorder, features: SoundFeatures, finish: Finish): void {
    const { weights, constants } = this.#runtime;
    const rows = this.#rows(features);
    const isTensor = (node: WeightTree<Tensor>): node is Tensor => node instanceof Tensor;
    const tree: WeightTree<Value> = mapLeaves(weights.tree, isTensor, (t) => rec.weight(t));
    const rowTable = rec.input("row_table", [rows, 2], "u32");
    const step = denseStep({
      ...{ batch: 1, length: rows, rowTable, causal: false },
      tokens: rec.input("features", features.shape, "f32"),
      constants: Object.fromEntries(Object.entries(constants).map(([key, t]) => [key, rec.weight(t)])),
    });
    finish(rec, this.#model.encode(rec, tree, step), { tree, rowTable });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

type Finish = (
  rec: ProgramRecorder,
  encoded: Value,
  parts: { readonly tree: WeightTree<Value>; readonly rowTable: Value },
) => void;
