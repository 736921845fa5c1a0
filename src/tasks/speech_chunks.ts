/** A stretch of sound, in samples. */
export interface SoundChunk {
  readonly from: number;
  readonly to: number;
}

/** Silence is looked for in steps and windows of these lengths. */
const STEP_SECONDS = 0.02;
const WINDOW_SECONDS = 0.2;
/** A cut is not made in the first part of a chunk. */
const EARLIEST = 0.5;

/** Cuts sound into chunks of at most `seconds`, each cut where it is quietest in the later half of a chunk. */
export function cutAtSilences(samples: Float32Array, sampleRate: number, seconds: number): SoundChunk[] {
  const most = Math.floor(seconds * sampleRate);
  const chunks: SoundChunk[] = [];
  let from = 0;
  while (samples.length - from > most) {
    const to = quietest(samples, sampleRate, { from: from + Math.floor(most * EARLIEST), to: from + most });
    chunks.push({ from, to });
    from = to;
  }
  return [...chunks, { from, to: samples.length }];
}

/** The middle of the window with the least energy. */
function quietest(samples: Float32Array, sampleRate: number, { from, to }: SoundChunk): number {
  const step = Math.max(1, Math.round(STEP_SECONDS * sampleRate));
  const steps = Math.floor((to - from) / step);
  const energies = Array.from({ length: steps }, (_, i) => {
    const frame = samples.subarray(from + i * step, from + (i + 1) * step);
    return frame.reduce((sum, x) => sum + x * x, 0);
  });
  const width = Math.min(steps, Math.round(WINDOW_SECONDS / STEP_SECONDS));
  let sum = energies.slice(0, width).reduce((a, b) => a + b, 0);
  let best = { sum, at: 0 };
  for (let i = width; i < steps; i++) {
    sum += (energies[i] as number) - (energies[i - width] as number);
    // Of equals the last: longer chunks are fewer.
    if (sum <= best.sum) best = { sum, at: i - width + 1 };
  }
  return from + Math.round((best.at + width / 2) * step);
}
