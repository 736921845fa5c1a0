import type { Shape } from "../core/shape.ts";
import {
  type EncoderDecoder,
  type EncoderDecoderDefinition,
  type EncoderDecoderFacts,
  encoderDecoderFamily,
  type Family,
  type WeightRule,
  type WeightTree,
} from "./family.ts";

/** Numbers that an encoder of sound reads: `[frames, channels]`. */
export interface SoundFeatures {
  readonly shape: Shape;
  readonly data: Float32Array<ArrayBuffer>;
}

/** How a family makes its encoder's input from sound, and how long the sound may be. */
export interface Sound {
  /** Samples a second. */
  readonly sampleRate: number;
  /** Seconds that are transcribed at once at most. */
  readonly chunkSeconds: number;
  /** Samples that make sense at least; less is padded with silence. */
  readonly leastSamples: number;
  /** The encoder's input for mono samples from −1 to 1. */
  features(samples: Float32Array): SoundFeatures;
  /** Rows that the encoder makes of so many frames. */
  encodedRows(frames: number): number;
  /** New tokens that so many samples may give at most. */
  mostTokens(samples: number): number;
}

/** An encoder–decoder whose encoder reads sound: `step.tokens` is its features. */
export interface Speech extends EncoderDecoder {
  readonly sound: Sound;
}

export type SpeechFamily = Family<Speech>;

/** A family of encoder–decoders that read sound. */
export interface SpeechDefinition<Config extends EncoderDecoderFacts, Rules>
  extends EncoderDecoderDefinition<Config, Rules> {
  sound(config: Config): Sound;
}

/** Hides a family's own types behind the interface that the registry holds. */
export function speechFamily<Config extends EncoderDecoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: SpeechDefinition<Config, Rules>,
): SpeechFamily {
  const family = encoderDecoderFamily(definition);
  return {
    ...family,
    open: (fields) => ({ ...family.open(fields), sound: definition.sound(definition.parse(fields)) }),
  };
}
