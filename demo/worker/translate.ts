import type { AttentionStep, Seq2SeqModel } from "../../src/index.ts";
import type { Candidate, TranslateReport, TranslateRequest, TranslationStep } from "../protocol.ts";
import { layerWeights } from "./look.ts";
import { tokenText, tokenTexts } from "./token_text.ts";

const CANDIDATES = 10;

/** Translates, and shows each step: what the decoder chose from, and what it looked at in the source. */
export async function translate(
  model: Seq2SeqModel,
  { text, beams }: TranslateRequest,
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
