/** Samples a second that sound is brought to here; the model brings it to its own rate. */
const SAMPLE_RATE = 16_000;

/** Sound as one channel. */
export interface Samples {
  readonly samples: Float32Array<ArrayBuffer>;
  readonly sampleRate: number;
}

/** Decodes whatever the browser can play, mixed to one channel. Throws what the browser says of other files. */
export async function samplesOf(sound: Blob): Promise<Samples> {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  const decoded = await context.decodeAudioData(await sound.arrayBuffer());
  const samples = new Float32Array(decoded.length);
  for (let c = 0; c < decoded.numberOfChannels; c++) {
    decoded.getChannelData(c).forEach((x, i) => {
      samples[i] = (samples[i] ?? 0) + x / decoded.numberOfChannels;
    });
  }
  return { samples, sampleRate: decoded.sampleRate };
}

/** A recording that goes on until it is stopped. */
export interface Recording {
  stop(): Promise<Blob>;
}

/** Begins to record from the microphone. Throws where there is none, or where the person says no. */
export async function record(): Promise<Recording> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts: Blob[] = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  recorder.start();
  return {
    stop: () =>
      new Promise((resolve) => {
        recorder.addEventListener("stop", () => {
          for (const track of stream.getTracks()) track.stop();
          resolve(new Blob(parts, { type: recorder.mimeType }));
        });
        recorder.stop();
      }),
  };
}
