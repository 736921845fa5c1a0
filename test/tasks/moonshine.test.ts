import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readWav } from "../../src/formats/wav.ts";
import { type AssetArray, decodeArray, readJson, withAssets } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";

interface Expected {
  samples: [number, number];
  ids: number[];
  text: string;
  encoder: AssetArray;
}

await withAssets("moonshine-tiny", "models/moonshine-tiny", (folder) =>
  describeOnTiers("moonshine-tiny", (engine) => {
    it("transcribes jfk.wav and its first half as expected, with the encoder within 1e-2", async () => {
      const model = await engine().loadSpeech(folder);
      const { samples, sampleRate } = readWav(readFileSync(join(folder, "jfk.wav")));
      for (const file of ["expected.json", "expected_first_half.json"]) {
        const { samples: range, ids, text, encoder } = readJson<Expected>(join(folder, file));
        const part = { samples: samples.slice(...range), sampleRate };
        const encoded = await model.encode(part);
        assertClose(encoded.data, decodeArray(encoder), {
          atol: 1e-2,
          rtol: 1e-2,
          label: file,
          shape: encoder.shape.slice(1),
        });
        const transcript = await model.transcribe(part);
        expect(transcript.text).toBe(text);
        expect(transcript.ids).toEqual([ids]);
      }
      await model.dispose();
      // SwiftShader takes more than a minute.
    });
  }),
);
