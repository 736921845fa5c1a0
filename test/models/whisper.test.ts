import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { logMel } from "../../src/models/whisper/log_mel.ts";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/goldens/whisper", import.meta.url));

interface Expected extends Record<"samples" | "mel80" | "mel128" | "encoder" | "logits", AssetArray> {
  ids: number[];
  greedy: number[];
}

/** What transformers writes with times, under the settings of one generation_config.json. */
interface TimedCase {
  generation: { suppress_tokens: number[]; lang_to_id: Record<string, number>; task_to_id: Record<string, number> };
  ids: number[];
  beams: number;
  tokens: number[];
}

const TIMED = readJson<TimedCase[]>(fileURLToPath(new URL("../fixtures/whisper_timestamps.json", import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), "heed-whisper-"));
afterAll(() => rmSync(folder, { recursive: true }));

const expected = readJson<Expected>(join(FOLDER, "expected.json"));
const samples = Float32Array.from(decodeArray(expected.samples));

describe("Whisper's features", () => {
  it.each([80, 128] as const)("of %i bands are transformers'", (mels) => {
    const { shape, data } = logMel(samples, { mels, length: 16_000 });
    const want = expected[`mel${mels}`];
    expect(shape).toEqual(want.shape);
    // Silence is 1e-10 give or take what f32 loses there; transformers computes in f32.
    assertClose(data, decodeArray(want), { atol: 2e-3, rtol: 1e-3, shape, label: `${mels} bands` });
  });
});

await describeOnTiers("whisper", (engine) => {
  it("encodes, detects the language and writes as transformers does", async () => {
    const model = await engine().loadSpeech(FOLDER);
    const sound = { samples, sampleRate: 16_000 };
    // The features differ by what f32 loses in them.
    const close = { atol: 1e-3, rtol: 1e-3 };
    const encoded = await model.encode(sound);
    assertClose(encoded.data, decodeArray(expected.encoder), {
      ...close,
      label: "encoder",
      shape: expected.encoder.shape,
    });
    const logits = await model.logits(sound, expected.ids);
    assertClose(
      logits.flatMap((row) => [...row]),
      decodeArray(expected.logits),
      { ...close, label: "logits" },
    );
    const maxTokens = expected.greedy.length - expected.ids.length;
    const found = await model.transcribe(sound, { maxTokens });
    expect(found.ids).toEqual([expected.greedy]);
    // More than a chunk: each is decoded by itself, in one batch.
    const twice = Float32Array.from([...samples, ...samples.slice(0, 9000)]);
    const both = await model.transcribe(
      { samples: twice, sampleRate: 16_000 },
      { maxTokens, language: "de", task: "translate" },
    );
    expect(both.ids).toHaveLength(2);
    expect(both.ids.map((ids) => ids.slice(0, 4))).toEqual([
      [50, 53, 54, 56],
      [50, 53, 54, 56],
    ]);
    await expect(model.transcribe(sound, { language: "xx" })).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await expect(model.transcribe(sound, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
    await expect(model.transcribe({ samples: new Float32Array(), sampleRate: 1 })).rejects.toMatchObject({
      code: "USAGE",
    });
    await model.dispose();
  });

  it("writes times by transformers' rules, greedily and with beams", async () => {
    const settings = [...new Set(TIMED.map((c) => JSON.stringify(c.generation)))];
    for (const [i, generation] of settings.entries()) {
      const path = join(folder, `${i}`);
      cpSync(FOLDER, path, { recursive: true });
      writeFileSync(join(path, "generation_config.json"), generation);
      const model = await engine().loadSpeech(path);
      for (const { ids, beams, tokens, generation: own } of TIMED) {
        if (JSON.stringify(own) !== generation) continue;
        const language = ids[1] === own.lang_to_id["<|en|>"] ? "en" : "de";
        const task = ids[2] === own.task_to_id["translate"] ? "translate" : "transcribe";
        const options = { language, task, beams, timestamps: true, maxTokens: 18 } as const;
        const found = await model.transcribe({ samples, sampleRate: 16_000 }, options);
        expect(found.ids, JSON.stringify({ ids, beams })).toEqual([[...ids, ...tokens]]);
        const ends = found.segments.flatMap(({ start, end }) => [start, end]);
        expect(ends).toEqual([...ends].sort((a, b) => a - b));
      }
      await model.dispose();
    }
  });
});
