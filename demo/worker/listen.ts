import type { AttentionStep, SpeechModel } from "../../src/index.ts";
import type { TokenText } from "../attention/maps.ts";
import type { ListenReport } from "../protocol.ts";
import type { Samples } from "../sound.ts";
import { layerWeights } from "./look.ts";
import { tokenText } from "./token_text.ts";

/** Longer sound is written down without its attention: its maps would be too many numbers. */
const LOOKED_AT_SECONDS = 20;

/** Writes down what is said, and where in the sound each token was heard. */
export async function listen(model: SpeechModel, sound: Samples, signal: AbortSignal): Promise<ListenReport> {
  const began = performance.now();
  const seen: AttentionStep[] = [];
  const watch = sound.samples.length <= LOOKED_AT_SECONDS * sound.sampleRate;
  const attention = watch
    ? { kinds: ["memory" as const], onStep: (step: AttentionStep) => seen.push(step) }
    : undefined;
  const { text, seconds } = await model.transcribe(sound, { signal, ...(attention ? { attention } : {}) });
  const rows = seen[0]?.layers[0]?.keys ?? 0;
  const { layers, heads } = model.facts;
  const perRow = rows > 0 ? model.secondsPerRow : 0;
  return {
    ...{ text, seconds, elapsedMs: performance.now() - began, layers, heads },
    queries: seen.map(({ token }) => tokenText(model.tokenizer, token)),
    frames: Array.from({ length: rows }, (_, i): TokenText => ({ id: i, text: `${(i * perRow).toFixed(2)} s` })),
    steps: seen.map((step) => step.layers.map(layerWeights)),
  };
}
