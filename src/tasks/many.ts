import type { Tokenizer } from "../text/tokenizer.ts";
import type { Batcher } from "./batcher.ts";
import { runBeams } from "./beam_generation.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import type { GenerationResult, GenerationTask } from "./generation.ts";
import { MOST_ROWS } from "./group_rows.ts";
import type { Generation } from "./session.ts";

/** How several texts are watched. */
export interface ManyOptions {
  /** Sees how many of the texts are done. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/** A generation whose options and prompt are checked. */
export interface PreparedGeneration {
  readonly beams: number;
  /** Opens its place in the cache. */
  open(): GenerationTask;
  generation(start: () => GenerationTask): Generation;
}

/** What generations run on. */
export interface GenerationParts {
  readonly runtime: DecoderRuntime;
  readonly batcher: Batcher;
  /** Makes text of results. */
  readonly tokenizer: Tokenizer | undefined;
}

/** Runs opened tasks, with several beams as one search. What becomes of them is theirs to say. */
export function runTasks(parts: GenerationParts, tasks: readonly GenerationTask[]): void {
  if ((tasks[0]?.options.beams.beams ?? 1) > 1) void runBeams(parts, tasks);
  else for (const task of tasks) parts.batcher.add(task);
}

/** A prepared generation by itself: it starts when it is read. */
export function runOne(parts: GenerationParts, prepared: PreparedGeneration): Generation {
  return prepared.generation(() => {
    const task = prepared.open();
    runTasks(parts, [task]);
    return task;
  });
}

/** Results of several, in their order, as many at once as there are rows and places in the cache. Rejects with the first failure. */
export async function runMany(
  parts: GenerationParts,
  prepared: readonly PreparedGeneration[],
  { onProgress }: ManyOptions = {},
): Promise<GenerationResult[]> {
  const results: GenerationResult[] = [];
  let done = 0;
  for (const group of inGroups(prepared, groupSize(parts, prepared[0]?.beams ?? 1))) {
    const tasks: GenerationTask[] = [];
    const running = group.map(async (p) => {
      // Opened by its generation, which gives its place back however it ends.
      const opened = p.generation(() => {
        const task = p.open();
        tasks.push(task);
        return task;
      });
      const result = await opened.result;
      onProgress?.({ done: ++done, total: prepared.length });
      return result;
    });
    runTasks(parts, tasks);
    for (const settled of await Promise.allSettled(running)) {
      if (settled.status === "rejected") throw settled.reason;
      results.push(settled.value);
    }
  }
  return results;
}

/** A search holds a sequence for each hypothesis, one for its prompt, and for a moment those that they become. */
function groupSize({ runtime }: GenerationParts, beams: number): number {
  const { maxSequences } = runtime.cache.shape;
  const most =
    beams > 1 ? Math.min(MOST_ROWS / beams, maxSequences / (2 * beams + 1)) : Math.min(MOST_ROWS, maxSequences);
  return Math.max(1, Math.floor(most));
}

function inGroups<T>(items: readonly T[], size: number): T[][] {
  const groups: T[][] = [];
  for (let i = 0; i < items.length; i += size) groups.push(items.slice(i, i + size));
  return groups;
}
