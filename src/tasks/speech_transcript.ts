import type { Tokenizer } from "../text/tokenizer.ts";
import type { SoundChunk } from "./speech_chunks.ts";
import type { SpeechPrompt } from "./speech_prompt.ts";

/** What a stretch of the sound says; times in seconds. */
export interface TranscriptSegment {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** What was said. */
export interface Transcript {
  readonly text: string;
  /** One a chunk; with timestamps, what the model marked. */
  readonly segments: readonly TranscriptSegment[];
  /** Ids of each chunk, those that the decoder read first included. */
  readonly ids: readonly (readonly number[])[];
  /** The language that was given or found, where the model knows several. */
  readonly language: string | undefined;
  /** Seconds of sound. */
  readonly seconds: number;
}

/** What a chunk gave. */
export interface WrittenChunk {
  readonly ids: readonly number[];
  readonly text: string;
  /** Ids that the decoder read first. */
  readonly prompt: number;
  readonly finish: string;
}

/** A whole sound, its chunks written down. */
interface WrittenSound {
  /** How many the sound has. */
  readonly samples: number;
  readonly sampleRate: number;
  readonly chunks: readonly SoundChunk[];
  /** One a chunk. */
  readonly written: readonly WrittenChunk[];
  readonly prompt: SpeechPrompt;
  readonly tokenizer: Tokenizer | undefined;
}

/** Puts together what the chunks of a sound gave. */
export function transcriptOf({ samples, sampleRate, chunks, written, prompt, tokenizer }: WrittenSound): Transcript {
  const segments = written.flatMap((one, i): TranscriptSegment[] => {
    const { from, to } = chunks[i] as SoundChunk;
    const [start, end] = [from / sampleRate, to / sampleRate];
    const marked = prompt.timestamps ? markedSegments(tokenizer, one, prompt.timestamps, { start, end }) : [];
    return marked.length > 0 ? marked : [{ start, end, text: one.text }];
  });
  const heard = written[0]?.ids[prompt.language?.at ?? 1];
  const token = heard === undefined ? undefined : tokenizer?.idToToken(heard);
  return {
    text: segments
      .map((s) => s.text)
      .filter((text) => text !== "")
      .join(" "),
    segments,
    ids: written.map(({ ids }) => ids),
    language: /^<\|([a-z]{2,3})\|>$/.exec(token ?? "")?.[1],
    seconds: samples / sampleRate,
  };
}

/** The stretches between pairs of timestamp tokens. */
function markedSegments(
  tokenizer: Tokenizer | undefined,
  { ids, prompt }: WrittenChunk,
  { firstId, seconds }: { readonly firstId: number; readonly seconds: number },
  { start, end }: { readonly start: number; readonly end: number },
): TranscriptSegment[] {
  const segments: TranscriptSegment[] = [];
  let from = start;
  let words: number[] = [];
  const close = (to: number) => {
    const text = tokenizer?.decode(words).trim() ?? "";
    if (text !== "") segments.push({ start: from, end: Math.min(end, to), text });
    words = [];
  };
  for (const id of ids.slice(prompt)) {
    if (id < firstId) {
      words.push(id);
      continue;
    }
    const at = start + (id - firstId) * seconds;
    close(at);
    from = at;
  }
  close(end);
  return segments;
}
