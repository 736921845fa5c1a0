import { expect, it } from "vitest";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { encoderGoldenPath, readEncoderGolden } from "../support/encoder_goldens.ts";
import { tolerance } from "../support/tolerances.ts";

await describeOnTiers("run of an encoder", (engine) => {
  it("gives the head's logits, and attention both ways as its own values have it", async () => {
    const model = await engine().loadEncoder(encoderGoldenPath("bert_labels"));
    const [, golden] = readEncoderGolden("bert_labels");
    const { ids, typeIds, logits: want = new Float64Array() } = golden ?? { ids: [] };
    const T = ids.length;
    const { logits = [], attention } = await model.run({ ids, typeIds }, { attention: { summary: true } });
    assertClose(
      logits.flatMap((row) => [...row]),
      want,
      tolerance("f32", "logits"),
    );
    const capture = ["block.0.attention.probs", "block.1.attention.probs"];
    const { values } = await model.run({ ids, typeIds }, { capture });
    const probs = capture.flatMap((name) => [...(values[name]?.data ?? [])]);
    const rebuilt = attention.flatMap(({ weights = [] }) => [...weights]);
    assertClose(rebuilt, probs, { atol: 1e-5, rtol: 1e-4 });
    // Every row has weight on later keys, and all of it is 1.
    expect(attention[0]?.weights?.slice(0, T).every((w) => w > 0)).toBe(true);
    expect(attention[0]?.weights?.slice(0, T).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
    const off = await model.run({ ids, typeIds }, { ablate: [{ layer: 0, head: 1 }] });
    expect(off.logits?.[0]).not.toEqual(logits[0]);
    expect((await model.values({ tokens: 3 })).map(({ name }) => name)).toContain("block.1.attention.scores");
    await expect(model.run({ ids }, { logits: "last" })).rejects.toMatchObject({ code: "USAGE" });
    await model.dispose();
    const plain = await engine().loadEncoder(encoderGoldenPath("roberta_classes"));
    const [, , , padded] = readEncoderGolden("roberta_classes");
    const classes = await plain.run({ ids: padded?.ids ?? [] });
    expect(classes.logits).toHaveLength(1);
    assertClose(classes.logits?.[0] ?? [], padded?.logits ?? [], tolerance("f32", "logits"));
    await plain.dispose();
  });
});
