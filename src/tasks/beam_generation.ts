import { HeedError, isHeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { beamSearch } from "./beam_search.ts";
import { CacheBeams } from "./cache_beams.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { type GenerationTask, prefillPrompt } from "./generation.ts";

/**
 * Runs a task as a beam search; its text comes when the search has ended. The task's sequence holds the prompt afterwards.
 * Never rejects: what fails ends the task.
 */
export async function runBeams(
  { runtime, tokenizer }: { readonly runtime: DecoderRuntime; readonly tokenizer: Tokenizer | undefined },
  task: GenerationTask,
): Promise<void> {
  try {
    await runtime.track(() => search(runtime, tokenizer, task));
  } catch (error) {
    if (isHeedError(error, "ABORTED")) task.end("abort");
    else task.fail(error);
  }
  task.settle();
}

async function search(runtime: DecoderRuntime, tokenizer: Tokenizer | undefined, task: GenerationTask): Promise<void> {
  const { ids, maxTokens, options } = task;
  await prefillPrompt(runtime, task);
  const beams = new CacheBeams(runtime, [{ sequence: task.sequence, lastId: ids.at(-1) as number }]);
  try {
    const request = { ids: [...ids], maxTokens, eosIds: options.eosIds, rules: options.rules };
    const onStep = () => {
      if (task.aborted) throw new HeedError("ABORTED", "generate: aborted.");
    };
    const [found = []] = await beamSearch(beams, [request], { ...options.beams, signal: options.signal, onStep });
    task.sequences = found.map(({ ids: own, score, logprobs }) => ({
      ...{ ids: own, score, logprobs },
      text: tokenizer?.decode(withoutEnd(own, options.eosIds)) ?? "",
    }));
    for (const id of found[0]?.ids ?? []) {
      if (!task.finish) task.take(id);
    }
    task.end("length");
  } finally {
    beams.dispose();
  }
}

function withoutEnd(ids: readonly number[], eosIds: readonly number[]): number[] {
  return eosIds.includes(ids.at(-1) ?? -1) ? ids.slice(0, -1) : [...ids];
}
