import { HeedError, throwIfAborted } from "../core/errors.ts";
import { nextTokens, type RuledTokens, type TokenRules } from "./token_rules.ts";

/** Most hypotheses of one search. */
export const MAX_BEAMS = 32;

/** How a search keeps and ends its hypotheses. */
export interface BeamOptions {
  /** Hypotheses that are kept open. */
  readonly beams: number;
  /** Results, at most `beams`. */
  readonly numReturn: number;
  /** A finished hypothesis' log-probability is divided by its new tokens to this power: above 0 favours long ones. */
  readonly lengthPenalty: number;
  /**
   * true: ends when `beams` hypotheses have finished. false: when the best open one, at its present length, is worse than all of
   * them. "never": when it could not become better even at the length that the penalty favours.
   */
  readonly earlyStopping: boolean | "never";
  readonly signal?: AbortSignal | undefined;
  /** Sees how many tokens the longest open hypothesis has. */
  readonly onStep?: (tokens: number) => void;
}

/** One sequence to be continued. In an encoder–decoder `ids` are what the decoder has read so far. */
export interface BeamRequest {
  readonly ids: readonly number[];
  /** New tokens at most. */
  readonly maxTokens: number;
  readonly eosIds: readonly number[];
  readonly rules: TokenRules;
}

/** A finished hypothesis. */
export interface BeamResult {
  /** New tokens, the end token among them. */
  readonly ids: readonly number[];
  /** Sum of log-probabilities divided by the length penalty. */
  readonly score: number;
  /** Log-probability of each new token, as the rules left it. */
  readonly logprobs: readonly number[];
}

/** An open hypothesis as the stepper scores it. */
export interface BeamRow extends RuledTokens {
  /** Index of the request. */
  readonly request: number;
  readonly rules: TokenRules;
}

/** A next token with its log-probability. */
export interface ScoredToken {
  readonly id: number;
  readonly score: number;
}

/**
 * What a search runs on: it holds the caches of the open hypotheses, in their order. At first there is one for each request.
 * A decoder with a cache, a decoder over an encoder's rows, and a table in a test are all the same to the search.
 */
export interface BeamStepper {
  /** The `count` likeliest next tokens of each open hypothesis (fewer if rules leave fewer), by falling score. */
  score(rows: readonly BeamRow[], count: number): Promise<readonly (readonly ScoredToken[])[]>;
  /** The open hypotheses become those that continue `parents[i]` with `tokens[i]`. */
  advance(parents: readonly number[], tokens: readonly number[]): void;
}

interface Hypothesis {
  readonly ids: readonly number[];
  readonly logprobs: readonly number[];
  /** Sum of the log-probabilities. */
  readonly total: number;
  /** Row of the stepper that it continues. */
  readonly parent: number;
}

/**
 * Beam search over several sequences at once: at each step the `beams` best continuations of each sequence stay open, those
 * that end are kept as results by their score. Gives what Hugging Face's generate gives with the same options. Throws
 * `ABORTED`, and what the stepper throws.
 */
export async function beamSearch(
  stepper: BeamStepper,
  requests: readonly BeamRequest[],
  options: BeamOptions,
): Promise<BeamResult[][]> {
  const searches = requests.map((request, i) => new Search(request, i, options));
  for (;;) {
    throwIfAborted(options.signal, "generate");
    const open = searches.flatMap((s) => s.rows);
    if (open.length === 0) return searches.map((s) => s.results());
    const count = Math.max(...searches.map((s) => s.candidates));
    const scored = await stepper.score(open, count);
    let first = 0;
    for (const search of searches) {
      const rows = search.rows.length;
      if (rows > 0) search.step(scored.slice(first, first + rows), first);
      first += rows;
    }
    const next = searches.flatMap((s) => s.open);
    if (next.length > 0) {
      stepper.advance(
        next.map((h) => h.parent),
        next.map((h) => h.ids.at(-1) as number),
      );
    }
    options.onStep?.(Math.max(0, ...searches.map((s) => s.length)));
  }
}

/** The search of one sequence. */
class Search {
  readonly #request: BeamRequest;
  readonly #index: number;
  readonly #options: BeamOptions;
  #open: readonly Hypothesis[];
  #finished: BeamResult[] = [];
  /** New tokens of the open hypotheses. */
  #length = 0;

  constructor(request: BeamRequest, index: number, options: BeamOptions) {
    this.#request = request;
    this.#index = index;
    this.#options = options;
    this.#open = [{ ids: [], logprobs: [], total: 0, parent: index }];
  }

  get open(): readonly Hypothesis[] {
    return this.#open;
  }

  get length(): number {
    return this.#length;
  }

  /** Continuations that are looked at: enough that `beams` stay open if all the others end. */
  get candidates(): number {
    return Math.max(2, 1 + this.#request.eosIds.length) * this.#options.beams;
  }

  get rows(): BeamRow[] {
    const { ids, maxTokens, eosIds, rules } = this.#request;
    return this.#open.map((h) => ({
      ...{ ids: [...ids, ...h.ids], promptLength: ids.length, maxTokens, eosIds, rules },
      request: this.#index,
    }));
  }

  /** Takes the scores of its rows, the first of which is `firstRow` of the stepper's. */
  step(scored: readonly (readonly ScoredToken[])[], firstRow: number): void {
    const { beams } = this.#options;
    const { eosIds, maxTokens } = this.#request;
    const all = scored.flatMap((tokens, i) => this.#continued(tokens, i, firstRow));
    // A stable sort: of equals the earlier hypothesis and the likelier token come first.
    all.sort((a, b) => b.total - a.total);
    const best = all.slice(0, this.candidates);
    this.#length++;
    const ends = (h: Hypothesis) => eosIds.includes(h.ids.at(-1) as number) || this.#length >= maxTokens;
    this.#finish(best.slice(0, beams).filter(ends));
    this.#open = best.filter((h) => !ends(h)).slice(0, beams);
    if (best.length === 0 && this.#finished.length === 0) {
      throw new HeedError("USAGE", "generate: no token may come next: bad words and suppressed tokens leave none.");
    }
    if (this.#isDone()) this.#open = [];
  }

  /** Finished hypotheses, the best first. */
  results(): BeamResult[] {
    return this.#finished.slice(0, this.#options.numReturn);
  }

  #continued(tokens: readonly ScoredToken[], row: number, firstRow: number): Hypothesis[] {
    const from = this.#open[row] as Hypothesis;
    const { ids, maxTokens, eosIds, rules } = this.#request;
    const next = nextTokens(rules, { ids: [...ids, ...from.ids], promptLength: ids.length, maxTokens, eosIds });
    return tokens.map(({ id, score }) => {
      // A forced token costs nothing, or as much as the choice among several of them.
      const forced = "only" in next ? (rules.isRenormalised ? -Math.log(next.only.length) : 0) : undefined;
      const logprob = forced ?? score;
      return {
        ids: [...from.ids, id],
        logprobs: [...from.logprobs, logprob],
        total: from.total + logprob,
        parent: firstRow + row,
      };
    });
  }

  #finish(ended: readonly Hypothesis[]): void {
    const { beams, lengthPenalty, earlyStopping } = this.#options;
    if (earlyStopping === true && this.#finished.length >= beams) return;
    for (const { ids, logprobs, total } of ended) {
      this.#finished.push({ ids, logprobs, score: total / this.#length ** lengthPenalty });
    }
    this.#finished.sort((a, b) => b.score - a.score);
    this.#finished.length = Math.min(this.#finished.length, beams);
  }

  #isDone(): boolean {
    const { beams, lengthPenalty, earlyStopping } = this.#options;
    const [best] = this.#open;
    if (!best) return true;
    if (this.#finished.length < beams) return false;
    if (earlyStopping === true) return true;
    const length = earlyStopping === "never" && lengthPenalty > 0 ? this.#request.maxTokens : this.#length;
    const worst = this.#finished.at(-1)?.score ?? Number.NEGATIVE_INFINITY;
    return best.total / length ** lengthPenalty <= worst;
  }
}
