/** How the next token is chosen; each step is left out where its option is absent. */
export interface SampleOptions {
  /** > 0; logits are divided by it. Default 1. */
  temperature?: number;
  /** > 0; logits of seen tokens are divided by it if positive, multiplied if negative. Default 1. */
  repetitionPenalty?: number;
  /** Ids seen so far, prompt included; repeats count once. */
  previous?: ArrayLike<number>;
  /** Keep the k largest logits, and all that equal the k-th. */
  topK?: number;
  /** Keep the smallest set of most probable tokens whose probability reaches topP; ties in the order of ids. */
  topP?: number;
  /** Keep tokens with at least minP times the probability of the most probable. */
  minP?: number;
}

/**
 * The distribution that the next token is drawn from: `[V]`, sums to 1, exactly 0 where filtered out.
 *
 * In this order, which is that of `transformers`: repetition penalty, temperature, top-k, top-p, min-p, softmax. Each filter
 * sees the distribution that the one before it left. Sources: Keskar et al., "CTRL" (2019), §4.1; Holtzman et al., "The
 * Curious Case of Neural Text Degeneration" (2020), §3.1; Nguyen et al., "Turning Up the Heat" (2024), §3.
 */
export function sampleDistribution(logits: Float64Array, options: SampleOptions = {}): Float64Array {
  const { temperature = 1, topK, topP, minP } = options;
  let scores: Float64Array = applyRepetitionPenalty(logits, options).map((x) => x / temperature);
  if (topK !== undefined) scores = filterTopK(scores, topK);
  if (topP !== undefined) scores = filterTopP(scores, topP);
  if (minP !== undefined) scores = filterMinP(scores, minP);
  return softmax(scores);
}

/** Inverse transform: the first id, in the order of ids, at which the running sum of probabilities exceeds u ∈ [0, 1). */
export function drawToken(probs: Float64Array, u: number): number {
  let sum = 0;
  let last = 0;
  for (let id = 0; id < probs.length; id++) {
    if (probs[id] === 0) continue;
    sum += probs[id]!;
    last = id;
    if (sum > u) return id;
  }
  return last;
}

/** The id of the largest logit, the lowest such id on a tie. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}

function applyRepetitionPenalty(logits: Float64Array, options: SampleOptions): Float64Array {
  const { repetitionPenalty = 1, previous = [] } = options;
  const scores = Float64Array.from(logits);
  for (const id of new Set(Array.from(previous))) {
    const x = scores[id]!;
    scores[id] = x < 0 ? x * repetitionPenalty : x / repetitionPenalty;
  }
  return scores;
}

function filterTopK(scores: Float64Array, k: number): Float64Array {
  const sorted = Float64Array.from(scores).sort();
  const threshold = sorted[Math.max(0, sorted.length - k)]!;
  return scores.map((x) => (x < threshold ? Number.NEGATIVE_INFINITY : x));
}

function filterTopP(scores: Float64Array, p: number): Float64Array {
  const probs = softmax(scores);
  const order = Array.from(probs.keys()).sort((a, b) => probs[b]! - probs[a]! || a - b);
  const kept = new Float64Array(scores.length).fill(Number.NEGATIVE_INFINITY);
  let before = 0;
  for (const [rank, id] of order.entries()) {
    if (rank > 0 && before >= p) break;
    kept[id] = scores[id]!;
    before += probs[id]!;
  }
  return kept;
}

function filterMinP(scores: Float64Array, minP: number): Float64Array {
  const probs = softmax(scores);
  const threshold = minP * probs.reduce((a, b) => Math.max(a, b), 0);
  return scores.map((x, id) => (probs[id]! < threshold ? Number.NEGATIVE_INFINITY : x));
}

/** Softmax that gives 0 for −∞. */
function softmax(scores: Float64Array): Float64Array {
  const max = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const exps = scores.map((x) => Math.exp(x - max));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / sum);
}
