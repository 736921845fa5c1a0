import { expect, it } from "vitest";
import type { EncoderLogits, EncoderModel } from "../../src/tasks/encoder_model.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import {
  ENCODER_GOLDENS,
  encoderGoldenPath,
  type EncoderGolden,
  readEncoderGolden,
} from "../support/encoder_goldens.ts";
import { tolerance } from "../support/tolerances.ts";

const CLOSE = tolerance("f32", "logits");

function flat(rows: readonly Float32Array[] | Float32Array): Float32Array {
  return rows instanceof Float32Array ? rows : Float32Array.from(rows.flatMap((row) => [...row]));
}

function checkLogits(got: EncoderLogits, want: EncoderGolden, label: string): void {
  if ("logits" in got) {
    assertClose(flat(got.logits), want.logits as Float64Array, { ...CLOSE, label });
  } else {
    assertClose(got.start_logits, want.startLogits as Float64Array, { ...CLOSE, label: `${label}, starts` });
    assertClose(got.end_logits, want.endLogits as Float64Array, { ...CLOSE, label: `${label}, ends` });
  }
}

/** Vectors of pooled hidden rows, as sentence-transformers makes them. */
function pooled({ ids, hidden = new Float64Array() }: EncoderGolden, pooling: "mean" | "cls" | "max"): number[] {
  const width = hidden.length / ids.length;
  const column = (c: number) => ids.map((_, t) => hidden[t * width + c] as number);
  return Array.from({ length: width }, (_, c) => {
    const values = column(c);
    if (pooling === "cls") return values[0] as number;
    return pooling === "max" ? Math.max(...values) : values.reduce((a, b) => a + b, 0) / ids.length;
  });
}

await describeOnTiers("encoders of transformers", (engine) => {
  it.each(ENCODER_GOLDENS)("%s: logits, and vectors of ragged batches as one at a time", async (name) => {
    const golden = readEncoderGolden(name);
    const poolings = name === "bert_plain" ? (["pooler", "mean", "cls", "max"] as const) : (["mean"] as const);
    for (const pooling of poolings) {
      const model: EncoderModel = await engine().loadEncoder(encoderGoldenPath(name), { pooling });
      const batched = await model.embed(
        golden
          .map(({ ids, typeIds }) => ({ ids, typeIds: typeIds ?? [] }))
          .map((input) => (input.typeIds.length > 0 ? input : { ids: input.ids })),
      );
      for (const [i, row] of golden.entries()) {
        const want = pooling === "pooler" ? (row.pooled as Float64Array) : pooled(row, pooling);
        assertClose(batched[i]?.vector ?? [], want, { ...CLOSE, label: `${name} ${pooling} ${i}` });
        if (name !== "bert_plain") {
          checkLogits(await model.logits(row.ids, { typeIds: row.typeIds }), row, `${name} ${i}`);
        }
      }
      await model.dispose();
    }
  });

  it("gives classes in batches as one at a time", async () => {
    const model = await engine().loadEncoder(encoderGoldenPath("bert_classes"));
    const golden = readEncoderGolden("bert_classes");
    const seen: number[] = [];
    const results = await model.classify(
      golden.map(({ ids, typeIds }) => ({ ids, typeIds })),
      { onProgress: ({ done, total }) => seen.push(done / total) },
    );
    expect(seen.at(-1)).toBe(1);
    for (const [i, { logits = [] }] of golden.entries()) {
      const weights = [...logits].map(Math.exp);
      const sum = weights.reduce((a, b) => a + b, 0);
      const want = ["no", "maybe", "yes"].map((label, at) => ({ label, score: (weights[at] as number) / sum }));
      want.sort((a, b) => b.score - a.score);
      expect(results[i]?.scores.map(({ label }) => label)).toEqual(want.map(({ label }) => label));
      assertClose(
        results[i]?.scores.map((s) => s.score) ?? [],
        want.map((s) => s.score),
        CLOSE,
      );
    }
    await expect(model.classify({ ids: [3] }, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ABORTED",
    });
    await expect(model.answer({ question: "?", context: "" })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining(
        "this bert checkpoint (BertForSequenceClassification) has one for classes, so classify and embed work",
      ),
    });
    await model.dispose();
    await expect(model.classify({ ids: [3] })).rejects.toMatchObject({ code: "DISPOSED" });
  });
});
