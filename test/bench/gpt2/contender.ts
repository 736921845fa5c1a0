import { GentleWait } from "../../../src/gpu/gentle_wait.ts";
import type { TestTensor } from "../../support/safetensors.ts";

/** Sizes and place of the model that every contender runs. */
export interface BenchModel {
  readonly folder: string;
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly vocab: number;
  readonly normEps: number;
}

/** An engine that runs the model greedily on one sequence at a time. */
export interface Contender {
  readonly name: string;
  /** Empties the cache, computes the prompt, and resolves to the next token once the host has it. */
  prefill(prompt: readonly number[]): Promise<number>;
  /** The next `count` tokens. */
  decode(count: number): Promise<readonly number[]>;
  /** Logits after the last token of the prompt. */
  logits(prompt: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** What a peer has to do: logits `[V]` of the last of the given tokens, which are appended to its cache. */
export interface PeerSteps {
  readonly name: string;
  reset(): void;
  append(ids: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Greedy decoding on the host, as the peers' users write it. With `naps`, peers get those that Heed takes while it waits
 * for a CPU adapter, so that engines are compared and not how they wait.
 */
export function greedy(steps: PeerSteps, options: { readonly naps: boolean }): Contender {
  const naps = GentleWait.for(options.naps);
  let last = 0;
  const append = async (ids: readonly number[]) => {
    naps?.enter();
    try {
      return await steps.append(ids);
    } finally {
      naps?.leave();
    }
  };
  return {
    name: steps.name,
    async prefill(prompt) {
      steps.reset();
      last = argmax(await append(prompt));
      return last;
    },
    async decode(count) {
      const ids: number[] = [];
      for (let i = 0; i < count; i++) {
        last = argmax(await append([last]));
        ids.push(last);
      }
      return ids;
    },
    async logits(prompt) {
      steps.reset();
      return append(prompt);
    },
    dispose: () => steps.dispose(),
  };
}

function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** Rows `[ids.length, C]` of token plus position embedding, looked up on the host: 0.1 ms where a peer cannot bind the table. */
export function embed(
  tensors: ReadonlyMap<string, TestTensor>,
  ids: readonly number[],
  position: number,
  width: number,
): Float32Array {
  const [wte, wpe] = [tensors.get("wte.weight")!.data, tensors.get("wpe.weight")!.data];
  const rows = new Float32Array(ids.length * width);
  ids.forEach((id, row) => {
    for (let c = 0; c < width; c++) rows[row * width + c] = wte[id * width + c]! + wpe[(position + row) * width + c]!;
  });
  return rows;
}
