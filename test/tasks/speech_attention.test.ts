import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { folderSource } from "../../src/sources/folder_node.ts";
import type { AttentionStep } from "../../src/tasks/attention_watch.ts";
import { SpeechModel } from "../../src/tasks/speech_model.ts";
import { describeOnDevice } from "../support/devices.ts";

const WHISPER = fileURLToPath(new URL("../fixtures/goldens/whisper", import.meta.url));
const sound = { samples: Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i / 5) / 4), sampleRate: 16_000 };

describeOnDevice("transcribe with attention", (device) => {
  it("gives each step's weights over the encoder's rows, and writes the same", async () => {
    const model = await SpeechModel.load(device(), await folderSource(WHISPER));
    const steps: [AttentionStep, number][] = [];
    const onStep = (step: AttentionStep, chunk: number) => steps.push([step, chunk]);
    const seen = await model.transcribe(sound, { maxTokens: 4, attention: { layers: [1], onStep } });
    expect(seen).toEqual(await model.transcribe(sound, { maxTokens: 4 }));
    expect(steps.map(([{ token }]) => token)).toEqual(seen.ids[0]?.slice(-5, -1));
    const { width, data } = await model.encode(sound);
    // Whisper reads whole chunks.
    expect(model.secondsPerRow * (data.length / width)).toBeCloseTo(1, 5);
    for (const [step, chunk] of steps) {
      const [layer] = step.layers;
      expect([chunk, step.layers.length, layer?.kind, layer?.layer]).toEqual([0, 1, "memory", 1]);
      expect(layer?.keys).toBe(data.length / width);
      const first = layer?.weights?.subarray(0, layer.keys) ?? [];
      expect([...first].reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 4);
    }
    await expect(model.transcribe(sound, { beams: 2, attention: { onStep } })).rejects.toThrow(/one hypothesis/);
    await model.dispose();
  });
});
