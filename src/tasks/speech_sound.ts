import { HeedError } from "../core/errors.ts";
import { resample } from "../formats/resample.ts";
import { type MonoSound, readWav } from "../formats/wav.ts";

/** Sound: mono samples from −1 to 1 with their rate, or the bytes of a WAV file. */
export type SpeechInput = MonoSound | Uint8Array;

/** The most sound that one call takes: a day. */
const MOST_SECONDS = 86_400;

/** The samples of a sound at the rate that a model reads. Throws `USAGE` for what is no sound, `LIMIT` for more than a day of it. */
export function samplesOf(input: SpeechInput, wantedRate: number): Float32Array<ArrayBuffer> {
  const sound: Partial<MonoSound> = input instanceof Uint8Array ? readWav(input) : (input ?? {});
  const { samples, sampleRate = 0 } = sound;
  if (!(samples instanceof Float32Array) || !Number.isInteger(sampleRate) || sampleRate < 1) {
    throw new HeedError(
      "USAGE",
      `transcribe: sound is {samples: Float32Array, sampleRate}, or the bytes of a WAV file; got ${typeof samples} at ${sampleRate} Hz.`,
    );
  }
  if (samples.length === 0) throw new HeedError("USAGE", "transcribe: there must be sound; got no samples.");
  if (samples.length / sampleRate > MOST_SECONDS) {
    throw new HeedError(
      "LIMIT",
      `transcribe: sound may be ${MOST_SECONDS} seconds long; got ${samples.length / sampleRate}.`,
    );
  }
  return resample(samples, sampleRate, wantedRate);
}

/** Silence after sound that is too short. */
export function padded(samples: Float32Array, leastSamples: number): Float32Array {
  if (samples.length >= leastSamples) return samples;
  const padded = new Float32Array(leastSamples);
  padded.set(samples);
  return padded;
}
