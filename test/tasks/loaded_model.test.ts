import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createEngine, type Engine } from "../../src/node.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";
import { goldenPath } from "../support/goldens.ts";
import { seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";

const GOLDENS = new URL("../fixtures/goldens/", import.meta.url);

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine?.dispose());

const sound = { samples: new Float32Array(16000).map((_, i) => Math.sin(i / 7)), sampleRate: 16000 };

/** Each kind of model, with a call that needs the GPU. */
const KINDS = [
  {
    kind: "decoder",
    open: async (on: Engine) => {
      const model = await on.load(goldenPath("gpt2"));
      return { model, call: () => model.run([1, 2, 3]) };
    },
  },
  {
    kind: "encoder",
    open: async (on: Engine) => {
      const model = await on.loadEncoder(encoderGoldenPath("bert_words"));
      return { model, call: () => model.logits([1, 2, 3]) };
    },
  },
  {
    kind: "encoder–decoder",
    open: async (on: Engine) => {
      const model = await on.loadSeq2Seq(seq2SeqGoldenPath("marian"));
      return { model, call: () => model.logits([1, 2, 3]) };
    },
  },
  {
    kind: "speech",
    open: async (on: Engine) => {
      const model = await on.loadSpeech(new URL("whisper", GOLDENS).pathname);
      return { model, call: () => model.encode(sound) };
    },
  },
] as const;

describe.each(KINDS)("disposal of a model of kind $kind", ({ open }) => {
  it("waits for the calls that run, gives everything back, and refuses later calls", async () => {
    const before = engine.device.buffersInUse;
    const { model, call } = await open(engine);
    await call();
    let ended = false;
    void Promise.allSettled([call()]).then(() => {
      ended = true;
    });
    await Promise.all([model.dispose(), model.dispose()]);
    expect(ended).toBe(true);
    await expect(call()).rejects.toMatchObject({ code: "DISPOSED" });
    expect(engine.device.buffersInUse).toBe(before);
  });

  it("happens with its engine", async () => {
    const own = await createEngine();
    const { call } = await open(own);
    await call();
    await own.dispose();
    await expect(call()).rejects.toMatchObject({ code: "DISPOSED" });
  });
});
