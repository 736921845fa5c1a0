import { HeedError, type TextModel } from "../../src/index.ts";
import type { LayerWeights, TokenText } from "../attention/maps.ts";
import type {
  Candidate,
  ContinueRequest,
  HeadName,
  LookReport,
  LookRequest,
  StepsReport,
  WatchedStep,
} from "../protocol.ts";
import { tokenText, tokenTexts } from "./token_text.ts";

const CANDIDATES = 12;

/** A forward pass over a text: every weight of every head, and what may come next. */
export async function look(model: TextModel, { text, ablate, prefix = 0 }: LookRequest): Promise<LookReport> {
  const ids = idsOf(model, text);
  const { attention, logits } = await model.run(ids, {
    ...{ ablate, logits: "last", attention: true, prefixLength: prefix },
  });
  return {
    tokens: tokenTexts(model.tokenizer, ids),
    layers: attention.map(layerWeights),
    next: candidates(model, logits?.at(-1)),
  };
}

/** The scores, weights and sums of one head. */
export async function steps(
  model: TextModel,
  ids: readonly number[],
  { layer, head }: HeadName,
  prefix: number,
): Promise<StepsReport> {
  const { heads, kvHeads, headDim } = model.facts;
  const at = `block.${layer}.attention`;
  const capture = ["scores", "probs", "v", "mixed"].map((name) => `${at}.${name}`);
  const { values } = await model.run(ids, { capture, logits: false, prefixLength: prefix });
  const read = (name: string): Float32Array => {
    const value = values[`${at}.${name}`];
    if (!value) throw new HeedError("INTERNAL", `look: the model gave no ${name}.`);
    return value.data;
  };
  const square = ids.length ** 2;
  const keyHead = Math.floor(head / (heads / kvHeads));
  return {
    tokens: tokenTexts(model.tokenizer, ids),
    scores: read("scores").slice(head * square, (head + 1) * square),
    probs: read("probs").slice(head * square, (head + 1) * square),
    values: columns(read("v"), kvHeads * headDim, keyHead * headDim, headDim),
    mixed: columns(read("mixed"), heads * headDim, head * headDim, headDim),
    headDim,
  };
}

/** Greedy tokens with heads off: each is a forward pass of its own over the whole text. */
export async function continueWith(
  model: TextModel,
  { ids, ablate, tokens, prefix }: ContinueRequest,
): Promise<readonly TokenText[]> {
  const all = [...ids];
  while (all.length < Math.min(ids.length + tokens, model.contextLength)) {
    const { logits } = await model.run(all, { ablate, logits: "last", prefixLength: prefix });
    all.push(indexOfLargest(logits?.at(-1) ?? new Float32Array(1)));
  }
  return tokenTexts(model.tokenizer, all).slice(ids.length);
}

/** A step of a generation, for the page. */
export function watchedStep(
  model: TextModel,
  step: { token: number; position: number; layers: readonly CapturedLayer[] },
): WatchedStep {
  const { token, position, layers } = step;
  return { token: tokenText(model.tokenizer, token), position, layers: layers.map(layerWeights) };
}

interface CapturedLayer {
  readonly layer: number;
  readonly heads: readonly number[];
  readonly queries: readonly number[];
  readonly keys: number;
  readonly weights?: Float32Array;
}

export function layerWeights({ layer, heads, queries, keys, weights }: CapturedLayer): LayerWeights {
  return { layer, heads: heads.length, queries: [...queries], keys, weights: weights ?? new Float32Array() };
}

/** The ids of a text, or ids as they are. */
export function idsOf(model: TextModel, text: string | readonly number[]): readonly number[] {
  if (typeof text !== "string") return text;
  if (!model.tokenizer) {
    throw new HeedError("BAD_FILE", "look: text needs a tokenizer, which the checkpoint lacks. Load one that has it.");
  }
  return model.tokenizer.encode(text);
}

/** The likeliest tokens and their probabilities. */
export function candidates(model: TextModel, logits: Float32Array | undefined): Candidate[] {
  if (!logits) return [];
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, x) => total + Math.exp(x - most), 0);
  const best: number[] = [];
  logits.forEach((x, id) => {
    const last = best.at(-1);
    if (best.length === CANDIDATES && last !== undefined && x <= (logits[last] ?? 0)) return;
    best.push(id);
    best.sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    if (best.length > CANDIDATES) best.pop();
  });
  return best.map((id) => ({
    token: tokenText(model.tokenizer, id),
    probability: Math.exp((logits[id] ?? 0) - most) / sum,
  }));
}

function indexOfLargest(values: Float32Array): number {
  let best = 0;
  values.forEach((value, i) => {
    if (value > (values[best] ?? 0)) best = i;
  });
  return best;
}

function columns(data: Float32Array, width: number, start: number, count: number): Float32Array {
  const rows = data.length / width;
  const out = new Float32Array(rows * count);
  for (let row = 0; row < rows; row++)
    out.set(data.subarray(row * width + start, row * width + start + count), row * count);
  return out;
}
