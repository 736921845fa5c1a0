import { describe, expect, it } from "vitest";
import { readWav } from "../../src/formats/wav.ts";

interface Layout {
  tag?: number;
  bits: number;
  channels?: number;
  rate?: number;
  /** Writes one sample. */
  write(view: DataView, at: number, value: number): void;
  extensible?: boolean;
  before?: Uint8Array;
  dataSize?: number;
}

const VALUES = [0, 0.5, -0.5, 0.25, -1, 0.75];

/** A WAV file of `VALUES`, one a frame; of two channels the second is silent. */
function wav({ tag = 1, bits, channels = 1, rate = 16_000, write, extensible, before, dataSize }: Layout): Uint8Array {
  const bytes = bits / 8;
  const data = new Uint8Array(VALUES.length * channels * bytes);
  const view = new DataView(data.buffer);
  VALUES.forEach((value, i) => {
    for (let c = 0; c < channels; c++) write(view, (i * channels + c) * bytes, c === 0 ? value : 0);
  });
  const format = new DataView(new ArrayBuffer(extensible ? 40 : 16));
  format.setUint16(0, extensible ? 0xfffe : tag, true);
  format.setUint16(2, channels, true);
  format.setUint32(4, rate, true);
  format.setUint32(8, rate * channels * bytes, true);
  format.setUint16(12, channels * bytes, true);
  format.setUint16(14, bits, true);
  if (extensible) format.setUint16(24, tag, true);
  const parts = [
    ...[text("RIFF"), u32(0), text("WAVE"), before ?? new Uint8Array()],
    ...[text("fmt "), u32(format.byteLength), new Uint8Array(format.buffer)],
    ...[text("data"), u32(dataSize ?? data.length), data],
  ];
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function text(tag: string): Uint8Array {
  return new TextEncoder().encode(tag);
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

const INT16: Layout = { bits: 16, write: (view, at, x) => view.setInt16(at, Math.min(x * 2 ** 15, 32767), true) };
const LAYOUTS: Record<string, Layout> = {
  "8 bits": { bits: 8, write: (view, at, x) => view.setUint8(at, x * 128 + 128) },
  "16 bits": INT16,
  "24 bits": {
    bits: 24,
    write(view, at, x) {
      const n = Math.round(x * 2 ** 23);
      view.setUint8(at, n & 255);
      view.setInt16(at + 1, n >> 8, true);
    },
  },
  "32 bits": { bits: 32, write: (view, at, x) => view.setInt32(at, x * 2 ** 31, true) },
  "floats of 32 bits": { tag: 3, bits: 32, write: (view, at, x) => view.setFloat32(at, x, true) },
  "floats of 64 bits": { tag: 3, bits: 64, write: (view, at, x) => view.setFloat64(at, x, true) },
};

describe("readWav", () => {
  it.each(Object.entries(LAYOUTS))("reads %s, plain and extensible, and mixes channels", (_, layout) => {
    for (const extensible of [false, true]) {
      const mono = readWav(wav({ ...layout, extensible, rate: 44_100 }));
      expect(mono.sampleRate).toBe(44_100);
      expect([...mono.samples]).toEqual(VALUES);
      const stereo = readWav(wav({ ...layout, extensible, channels: 2 }));
      expect([...stereo.samples]).toEqual(VALUES.map((x) => x / 2));
    }
  });

  it("passes over chunks that it does not know, of odd sizes too", () => {
    const before = Uint8Array.from([...text("LIST"), ...u32(3), 1, 2, 3, 0]);
    expect([...readWav(wav({ ...INT16, before })).samples]).toEqual(VALUES);
  });

  it("takes what is there of a file that was cut short, or that a stream left without a size", () => {
    const file = wav(INT16);
    expect(readWav(file.slice(0, -5)).samples).toHaveLength(VALUES.length - 3);
    expect(readWav(wav({ ...INT16, dataSize: 0xffffffff })).samples).toHaveLength(VALUES.length);
    expect(readWav(wav({ ...INT16, dataSize: 0 })).samples).toHaveLength(VALUES.length);
    expect(readWav(wav({ ...INT16, dataSize: 1 << 30 })).samples).toHaveLength(VALUES.length);
  });

  it("reads samples of 24 bits that stand in 32", () => {
    const file = wav(LAYOUTS["32 bits"] as Layout);
    new DataView(file.buffer).setUint16(34, 24, true);
    expect([...readWav(file).samples]).toEqual(VALUES);
  });

  it.each([
    ["ID3\u0004", "an MP3 file"],
    ["\u00ff\u00fb\u0090", "an MP3 file"],
    ["fLaC", "a FLAC file"],
    ["OggS", "an Ogg file"],
    ["\0\0\0 ftypM4A ", "an MP4 or M4A file"],
    ["FORM\0\0\0\0AIFF", "an AIFF file"],
    ["\u001aE\u00df\u00a3", "a WebM or Matroska file"],
  ])("says that %j begins another kind of file, and what to do", (beginning, kind) => {
    const file = Uint8Array.from([...beginning].map((c) => c.charCodeAt(0)));
    expect(() => readWav(file)).toThrow(`this is ${kind}. Convert it: ffmpeg`);
  });

  it("takes a float that is no number for silence", () => {
    const file = wav(LAYOUTS["floats of 32 bits"] as Layout);
    new DataView(file.buffer).setFloat32(file.length - 4, Number.NaN, true);
    expect(readWav(file).samples.at(-1)).toBe(0);
  });

  it.each([
    [new Uint8Array(4), "BAD_FILE", "begin with RIFF and WAVE; got 4 bytes"],
    [text("RIFX and then some more"), "BAD_FILE", "begin with RIFF and WAVE"],
    [wav({ ...INT16, tag: 7 }), "UNSUPPORTED", "got format 7"],
    [wav({ ...INT16, rate: 0 }), "BAD_FILE", "have channels and a rate"],
    [
      wav({ ...(LAYOUTS["floats of 32 bits"] as Layout), bits: 16, tag: 3, write: () => {} }),
      "BAD_FILE",
      "samples of 8 to 32 bits",
    ],
    [wav(INT16).slice(0, 36), "BAD_FILE", "hold a data chunk"],
    [
      Uint8Array.from([...text("RIFF"), ...u32(4), ...text("WAVE"), ...text("data"), ...u32(2), 0, 0]),
      "BAD_FILE",
      "its format before",
    ],
  ])("refuses what is no WAV file or packed otherwise (%#)", (file, code, message) => {
    expect(() => readWav(file)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });
});
