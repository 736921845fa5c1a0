import type { AttentionStep, Seq2SeqModel } from "../../src/index.ts";
import type { Candidate, TranslateReport, TranslateRequest, TranslationStep } from "../protocol.ts";
import { layerWeights } from "./look.ts";
import { tokenText, tokenTexts } from "./token_text.ts";

const CANDIDATES = 10;
/** Steps of a translation with hard attention, each a whole forward pass. */
const MOST_STEPS = 48;

/** Translates, and shows each step: what the decoder chose from, and what it looked at in the source. */
export async function translate(
  model: Seq2SeqModel,
  { text, beams, hard }: TranslateRequest,
  signal: AbortSignal,
  onPiece: (text: string) => void,
): Promise<TranslateReport> {
  const { tokenizer, targetTokenizer } = model;
  const source = tokenTexts(tokenizer, tokenizer?.encode(text) ?? []);
  const { layers, heads } = model.facts;
  const sizes = { layers, heads };
  if (beams > 1) {
    const { text: found } = await model.translate(text, { beams, signal });
    return { text: found, source, steps: [], ...sizes };
  }
  if (hard) return translateHard(model, text, signal, onPiece);
  const seen: AttentionStep[] = [];
  const attention = { kinds: ["memory" as const], onStep: (step: AttentionStep) => seen.push(step) };
  const generation = model.translation(text, { greedy: true, logprobs: CANDIDATES, attention, signal });
  let whole = "";
  for await (const piece of generation) {
    whole += piece;
    onPiece(whole);
  }
  const { ids, text: result, logprobs = [] } = await generation.result;
  const steps = ids.generated.map((id, i): TranslationStep => {
    const watched = seen[i];
    return {
      query: tokenText(targetTokenizer, watched?.token ?? id),
      chosen: tokenText(targetTokenizer, id),
      candidates: (logprobs[i]?.top ?? []).map(
        (top): Candidate => ({ token: tokenText(targetTokenizer, top.id), probability: Math.exp(top.logprob) }),
      ),
      layers: (watched?.layers ?? []).map(layerWeights),
    };
  });
  return { text: result, source, steps, ...sizes };
}

/** With hard cross-attention every step is a forward pass of its own: no cache was made for it. */
async function translateHard(
  model: Seq2SeqModel,
  text: string,
  signal: AbortSignal,
  onPiece: (text: string) => void,
): Promise<TranslateReport> {
  const { tokenizer, targetTokenizer } = model;
  const { layers, heads } = model.facts;
  const steps: TranslationStep[] = [];
  let target: number[] | undefined;
  let source: TranslateReport["source"] = [];
  let whole = "";
  while (steps.length < MOST_STEPS && !signal.aborted) {
    const step = await model.step(text, target, { candidates: CANDIDATES, selection: "hard", signal });
    const [best] = step.candidates;
    if (!best) break;
    const read = step.target.map(({ id }) => id);
    const query = read.at(-1) ?? best.id;
    source = tokenTexts(
      tokenizer,
      step.source.map(({ id }) => id),
    );
    steps.push({
      query: tokenText(targetTokenizer, query),
      chosen: tokenText(targetTokenizer, best.id),
      candidates: step.candidates.map(({ id, probability }) => ({
        token: tokenText(targetTokenizer, id),
        probability,
      })),
      layers: step.attention.map((rows, layer) => ({
        layer,
        heads,
        queries: [0],
        keys: source.length,
        weights: joined(rows),
      })),
    });
    target = [...read, best.id];
    whole = targetTokenizer?.decode(target) ?? "";
    onPiece(whole);
    if (targetTokenizer?.isSpecial(best.id)) break;
  }
  return { text: whole, source, steps, layers, heads };
}

function joined(rows: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let at = 0;
  for (const row of rows) {
    out.set(row, at);
    at += row.length;
  }
  return out;
}
