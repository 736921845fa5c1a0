import { invariant } from "../core/errors.ts";
import type { CachedSequence } from "../nn/kv_cache.ts";
import { NO_SLOT } from "../nn/step.ts";
import { NO_TOKEN, ruleWords, topTokens } from "../ops/token_choice.ts";
import type { Plan } from "../program/replay.ts";
import type { BeamRow, BeamStepper, ScoredToken } from "./beam_search.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { groupRows, MOST_ROWS } from "./group_rows.ts";
import { hasRules, packRules } from "./token_rules.ts";

/** Where a search begins: a sequence that holds all tokens but the last. It stays the caller's. */
export interface BeamRoot {
  readonly sequence: CachedSequence;
  readonly lastId: number;
}

interface Beam {
  readonly sequence: CachedSequence;
  readonly token: number;
}

/**
 * The open hypotheses of a search on the paged cache. A hypothesis that goes on in several ways is forked: its full pages are
 * shared, the part-filled last one is copied when the second of them writes. Whoever made it disposes it.
 */
export class CacheBeams implements BeamStepper {
  readonly #runtime: DecoderRuntime;
  #beams: readonly Beam[];

  /** Throws `LIMIT` where the cache has no place for one sequence more a root. */
  constructor(runtime: DecoderRuntime, roots: readonly BeamRoot[]) {
    this.#runtime = runtime;
    const beams: Beam[] = [];
    try {
      for (const { sequence, lastId } of roots) beams.push({ sequence: sequence.fork(), token: lastId });
    } catch (error) {
      for (const { sequence } of beams) sequence.dispose();
      throw error;
    }
    this.#beams = beams;
  }

  async score(rows: readonly BeamRow[], count: number): Promise<readonly (readonly ScoredToken[])[]> {
    invariant(rows.length === this.#beams.length, `${rows.length} rows of ${this.#beams.length} hypotheses`);
    const isRuled = rows.some(({ rules }) => hasRules(rules) || rules.repetitionPenalty !== 1);
    const all: (readonly ScoredToken[])[] = [];
    for (let at = 0; at < rows.length; at += MOST_ROWS) {
      const part = rows.slice(at, at + MOST_ROWS);
      const size = groupRows(part.length);
      const planned = await this.#plan(size, count, isRuled);
      const beams = this.#beams.slice(at, at + MOST_ROWS);
      const words = await planned.turn(() => this.#run(planned, beams, isRuled ? part : undefined, size));
      for (const [i] of part.entries()) all.push(ranked(words, i, count));
    }
    return all;
  }

  advance(parents: readonly number[], tokens: readonly number[]): void {
    const before = this.#beams;
    before.forEach(({ sequence }, i) => {
      if (!parents.includes(i)) sequence.dispose();
    });
    const heirs = new Set<number>();
    const twins: Beam[] = [];
    try {
      this.#beams = parents.map((parent, i) => {
        const { sequence } = before[parent] as Beam;
        const token = tokens[i] as number;
        if (!heirs.has(parent)) {
          heirs.add(parent);
          return { sequence, token };
        }
        const twin = { sequence: sequence.fork(), token };
        twins.push(twin);
        return twin;
      });
    } catch (error) {
      // All that still holds pages stays known, for dispose.
      this.#beams = [...before.filter((_, i) => parents.includes(i)), ...twins];
      throw error;
    }
  }

  /** Gives the pages back. Idempotent. */
  dispose(): void {
    for (const { sequence } of this.#beams) sequence.dispose();
    this.#beams = [];
  }

  #plan(size: number, count: number, isRuled: boolean): Promise<Plan> {
    return this.#runtime.plan(`beams ${size} ${count}${isRuled ? " with rules" : ""}`, (rec) => {
      const step = this.#runtime.record(rec, size);
      const { vocabSize } = this.#runtime.decoder.facts;
      const rules = isRuled ? rec.input("rules", [size, ruleWords(vocabSize)], "u32") : undefined;
      rec.output("best", topTokens(rec, { logits: step.logits(step.hidden), rules }, { top: count }));
    });
  }

  async #run(
    planned: Plan,
    beams: readonly Beam[],
    ruled: readonly BeamRow[] | undefined,
    size: number,
  ): Promise<Uint32Array<ArrayBuffer>> {
    const tokens = new Uint32Array(size);
    const rowTable = new Uint32Array(size * 2).fill(NO_SLOT);
    beams.forEach(({ sequence, token }, i) => {
      sequence.reserve(1);
      tokens[i] = token;
      rowTable.set([sequence.slot, sequence.length], i * 2);
    });
    planned.write("tokens", tokens);
    planned.write("row_table", rowTable);
    if (ruled) {
      const { vocabSize } = this.#runtime.decoder.facts;
      const words = new Uint32Array(size * ruleWords(vocabSize));
      for (const [i, row] of ruled.entries()) words.set(packRules(row.rules, row, vocabSize), i * ruleWords(vocabSize));
      planned.write("rules", words);
    }
    const sequences = beams.map(({ sequence }) => sequence);
    const sourceKeys = this.#runtime.memory?.place(planned, sequences, size) ?? 0;
    planned.replay({ keys: Math.max(sourceKeys, ...sequences.map((s) => s.length + 1)), rows: size });
    const best = new Uint32Array(await planned.readOutput("best"));
    for (const { sequence } of beams) sequence.advance(1);
    return best;
  }
}

/** The ranked tokens of a row of `topTokens`, `[N, 1 + count, 2]`. */
function ranked(words: Uint32Array<ArrayBuffer>, row: number, count: number): ScoredToken[] {
  const scores = new Float32Array(words.buffer);
  return Array.from({ length: count }, (_, rank) => 2 * (row * (count + 1) + 1 + rank))
    .filter((at) => words[at] !== NO_TOKEN)
    .map((at) => ({ id: words[at] as number, score: scores[at + 1] as number }));
}
