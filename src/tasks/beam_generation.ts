import { HeedError, isHeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type BeamResult, beamSearch } from "./beam_search.ts";
import { CacheBeams } from "./cache_beams.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { encodeSources, type GenerationTask, prefillPrompt } from "./generation.ts";

/** What a search works with. */
interface BeamParts {
  readonly runtime: DecoderRuntime;
  readonly tokenizer: Tokenizer | undefined;
}

/**
 * Runs tasks as one beam search, all of them with the options of the first; their texts come when it has ended. Where the cache
 * has no room for all at once, they are searched in halves. A task's sequence holds its prompt afterwards. Never rejects: what
 * fails ends the tasks.
 */
export async function runBeams(parts: BeamParts, tasks: readonly GenerationTask[]): Promise<void> {
  try {
    await parts.runtime.track(() => searchInParts(parts, tasks));
  } catch (error) {
    for (const task of tasks) {
      if (isHeedError(error, "ABORTED")) task.end("abort");
      else if (!task.finish) task.fail(error);
    }
  }
  for (const task of tasks) task.settle();
}

async function searchInParts(parts: BeamParts, tasks: readonly GenerationTask[]): Promise<void> {
  try {
    await search(parts, tasks);
  } catch (error) {
    if (!isHeedError(error, "LIMIT") || tasks.length < 2) throw error;
    const half = Math.ceil(tasks.length / 2);
    await searchInParts(parts, tasks.slice(0, half));
    await searchInParts(parts, tasks.slice(half));
  }
}

async function search({ runtime, tokenizer }: BeamParts, tasks: readonly GenerationTask[]): Promise<void> {
  const [first] = tasks;
  if (!first) return;
  const { options } = first;
  await encodeSources(runtime, tasks, options.signal);
  for (const task of tasks) await prefillPrompt(runtime, task);
  const roots = tasks.map(({ sequence, ids }) => ({ sequence, lastId: ids.at(-1) as number }));
  const beams = new CacheBeams(runtime, roots);
  try {
    const requests = tasks.map(({ ids, maxTokens }) => {
      return { ids: [...ids], maxTokens, eosIds: options.eosIds, rules: options.rules };
    });
    const onStep = () => {
      if (tasks.every((task) => task.aborted)) throw new HeedError("ABORTED", "generate: aborted.");
    };
    const found = await beamSearch(beams, requests, { ...options.beams, signal: options.signal, onStep });
    for (const [i, task] of tasks.entries()) finish(task, found[i] ?? [], tokenizer);
  } finally {
    beams.dispose();
  }
}

function finish(task: GenerationTask, found: readonly BeamResult[], tokenizer: Tokenizer | undefined): void {
  task.sequences = found.map(({ ids, score, logprobs }) => ({
    ...{ ids, score, logprobs },
    text: tokenizer?.decode(withoutEnd(ids, task.options.eosIds)) ?? "",
  }));
  for (const id of found[0]?.ids ?? []) {
    if (!task.finish) task.take(id);
  }
  task.end("length");
}

function withoutEnd(ids: readonly number[], eosIds: readonly number[]): number[] {
  return eosIds.includes(ids.at(-1) ?? -1) ? ids.slice(0, -1) : [...ids];
}
