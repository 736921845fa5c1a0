import type { CapturedAttention, ResolvedAttention } from "../inspect/attention_request.ts";
import type { AttentionTap } from "../inspect/attention_tap.ts";
import type { CachedSequence } from "../nn/kv_cache.ts";
import type { BurstResult } from "./decode_group.ts";

/** The attention of one decode step: of the newest token, over all keys up to its own. */
export interface AttentionStep {
  /** The token whose query it is. */
  readonly token: number;
  readonly position: number;
  /** One entry a layer that was asked for, each with the one query row. */
  readonly layers: readonly CapturedAttention[];
}

/** What a watch has to know of its task. */
interface WatchedTask {
  readonly ids: readonly number[];
  readonly sequence: Pick<CachedSequence, "memory">;
}

/** Collects what a generation asked to see of its attention. */
export class AttentionWatch {
  readonly request: ResolvedAttention;
  /** Empty if a callback takes the steps. */
  readonly steps: AttentionStep[] = [];
  readonly #onStep: ((step: AttentionStep) => void) | undefined;

  constructor(request: ResolvedAttention, onStep: ((step: AttentionStep) => void) | undefined) {
    this.request = request;
    this.#onStep = onStep;
  }

  /** True where a callback takes the steps. */
  get calls(): boolean {
    return this.#onStep !== undefined;
  }

  /** Takes a step's capture; the task's ids end with the token whose query it was. */
  take(tap: AttentionTap, result: BurstResult, row: number, { ids, sequence }: WatchedTask): void {
    const position = ids.length - 1;
    const cut = {
      request: this.request,
      rows: [row],
      queries: [position],
      keys: ids.length,
      sourceKeys: sequence.memory?.length,
    };
    const layers = tap.cut((output) => result.attention(output), cut);
    const step = { token: ids[position] as number, position, layers };
    if (this.#onStep) this.#onStep(step);
    else this.steps.push(step);
  }
}
