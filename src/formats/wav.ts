import { HeedError } from "../core/errors.ts";

/** Sound as numbers: one channel, from −1 to 1. */
export interface MonoSound {
  readonly sampleRate: number;
  readonly samples: Float32Array<ArrayBuffer>;
}

interface WavFormat {
  readonly kind: "int" | "float";
  readonly channels: number;
  readonly sampleRate: number;
  /** Of one sample of one channel. */
  readonly bytes: number;
}

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
const MAX_CHANNELS = 1024;
const MAX_RATE = 10_000_000;

/**
 * Reads a WAV file: whole numbers of 8 to 32 bits or floats of 32 or 64, any rate, any channels, which are mixed to one with
 * equal shares. A file that was cut short gives what it has. Throws `BAD_FILE` for what is no WAV file, `UNSUPPORTED` for
 * one that is packed otherwise.
 */
export function readWav(file: Uint8Array): MonoSound {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const tag = (at: number) => String.fromCharCode(...file.subarray(at, at + 4));
  const kind = soundKind(file);
  if (kind !== undefined) {
    throw new HeedError(
      "UNSUPPORTED",
      `wav: a WAV file is needed; this is ${kind}. Convert it: ffmpeg -i in -c:a pcm_s16le out.wav.`,
    );
  }
  if (file.byteLength < 12 || (tag(0) !== "RIFF" && tag(0) !== "RF64") || tag(8) !== "WAVE") {
    throw badFile(
      "begin with RIFF and WAVE",
      file.byteLength < 12 ? `${file.byteLength} bytes` : JSON.stringify(tag(0)),
    );
  }
  let format: WavFormat | undefined;
  for (let at = 12; at + 8 <= file.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    const body = at + 8;
    if (tag(at) === "fmt ") format = readFormat(view, body, Math.min(size, file.byteLength - body));
    if (tag(at) === "data") {
      if (!format) throw badFile("say its format before its data", "data first");
      // Recorders that stream leave the size at 0 or at its largest; what is there counts.
      const open = size === 0 || size === 0xffffffff;
      return mixed(view, format, body, open ? file.byteLength : Math.min(file.byteLength, body + size));
    }
    // Chunks begin at even places.
    at = body + size + (size % 2);
  }
  throw badFile("hold a data chunk", "none");
}

/** Sound that people have in other files, by how these begin; undefined for none that is known. */
function soundKind(file: Uint8Array): string | undefined {
  const text = String.fromCharCode(...file.subarray(0, 12));
  if (text.startsWith("ID3") || (file[0] === 0xff && ((file[1] ?? 0) & 0xe6) === 0xe2)) return "an MP3 file";
  if (text.startsWith("fLaC")) return "a FLAC file";
  if (text.startsWith("OggS")) return "an Ogg file";
  if (text.slice(4, 8) === "ftyp") return "an MP4 or M4A file";
  if (text.startsWith("FORM")) return "an AIFF file";
  return text.startsWith("\u001aE\u00df\u00a3") ? "a WebM or Matroska file" : undefined;
}

function readFormat(view: DataView, at: number, size: number): WavFormat {
  if (size < 16) throw badFile("have a format of 16 bytes at least", `${size}`);
  let tag = view.getUint16(at, true);
  const channels = view.getUint16(at + 2, true);
  const sampleRate = view.getUint32(at + 4, true);
  const frameBytes = view.getUint16(at + 12, true);
  const bits = view.getUint16(at + 14, true);
  if (tag === EXTENSIBLE && size >= 26) tag = view.getUint16(at + 24, true);
  if (tag !== PCM && tag !== FLOAT) {
    throw new HeedError(
      "UNSUPPORTED",
      `wav: samples must be plain numbers (PCM or float); got format ${tag}. Convert the file: ffmpeg -i in.wav -c:a pcm_s16le out.wav.`,
    );
  }
  if (channels < 1 || channels > MAX_CHANNELS || sampleRate < 1 || sampleRate > MAX_RATE) {
    throw badFile("have channels and a rate", `${channels} channels, ${sampleRate} Hz`);
  }
  // Samples of 24 bits may stand in 32: at their upper end, so that they are read as 32.
  const bytes = frameBytes / channels;
  const fits = tag === PCM ? [1, 2, 3, 4].includes(bytes) : bytes === 4 || bytes === 8;
  if (!fits || Math.ceil(bits / 8) > bytes || bits < 1 || (tag === FLOAT && bits !== 8 * bytes)) {
    throw badFile(
      "have samples of 8 to 32 bits, or floats of 32 or 64",
      `${bits} bits in frames of ${frameBytes} bytes`,
    );
  }
  return { kind: tag === PCM ? "int" : "float", channels, sampleRate, bytes };
}

/** The mean of the channels. */
function mixed(view: DataView, format: WavFormat, from: number, to: number): MonoSound {
  const { channels, bytes, sampleRate } = format;
  const frames = Math.floor((to - from) / (bytes * channels));
  const samples = new Float32Array(frames);
  const read = sampleReader(view, format);
  for (let frame = 0; frame < frames; frame++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) {
      const value = read(from + (frame * channels + c) * bytes);
      // A broken float is silence; it would make everything else broken too.
      if (Number.isFinite(value)) sum += value;
    }
    samples[frame] = sum / channels;
  }
  return { sampleRate, samples };
}

function sampleReader(view: DataView, { kind, bytes }: WavFormat): (at: number) => number {
  if (kind === "float") return bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true);
  switch (bytes) {
    case 1:
      // Bytes alone are counted from 0.
      return (at) => (view.getUint8(at) - 128) / 128;
    case 2:
      return (at) => view.getInt16(at, true) / 2 ** 15;
    case 3:
      return (at) => (view.getInt16(at + 1, true) * 256 + view.getUint8(at)) / 2 ** 23;
    default:
      return (at) => view.getInt32(at, true) / 2 ** 31;
  }
}

function badFile(rule: string, got: string): HeedError {
  return new HeedError("BAD_FILE", `wav: a WAV file must ${rule}; got ${got}. Check that the file is one, and whole.`);
}
