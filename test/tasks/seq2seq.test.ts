import { expect, it } from "vitest";
import type { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { readSeq2SeqGolden, SEQ2SEQ_GOLDENS, seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";
import { tolerance } from "../support/tolerances.ts";

await describeOnTiers("an encoder–decoder", (engine, tier) => {
  it.each(SEQ2SEQ_GOLDENS)("%s: logits, greedy and 4 beams of transformers, alone and together", async (name) => {
    const model = (await engine().loadAny(seq2SeqGoldenPath(name))) as Seq2SeqModel;
    expect(model.kind).toBe("encoder-decoder");
    const cases = readSeq2SeqGolden(name);
    for (const { ids, decoderIds, logits } of cases) {
      const got = (await model.logits(ids, decoderIds)).flatMap((row) => [...row]);
      assertClose(got, logits, { ...tolerance("f32", "logits"), label: name });
    }
    const greedy = { greedy: true };
    const generated = (ids: number[], options: object) =>
      model.generate(ids, options).result.then((r) => r.ids.generated);
    for (const c of cases) expect(await generated(c.ids, greedy), `${name} greedy`).toEqual(c.greedy);
    const together = await Promise.all(cases.map((c) => generated(c.ids, greedy)));
    expect(together).toEqual(cases.map((c) => c.greedy));
    for (const c of cases) expect(await generated(c.ids, {}), `${name} beams`).toEqual(c.beams);
    expect(await Promise.all(cases.map((c) => generated(c.ids, {})))).toEqual(cases.map((c) => c.beams));
    await model.dispose();
  });

  // The kernel of captured weights has two variants.
  const captures = tier === "core" || tier === "full" ? it : it.skip;
  captures.each(["transformer", "t5"] as const)("%s: captures the cross-attention of each step", async (name) => {
    const model = await engine().loadSeq2Seq(seq2SeqGoldenPath(name));
    const { layers, heads } = model.facts;
    for (const { ids, decoderIds, cross } of readSeq2SeqGolden(name)) {
      const [T, S] = [decoderIds.length, ids.length];
      const results = decoderIds.map((_, t) =>
        model.generate(ids, { decoderIds: decoderIds.slice(0, t + 1), maxTokens: 1, greedy: true, attention: {} }),
      );
      for (const [t, { result }] of results.entries()) {
        const [step] = (await result).attention ?? [];
        expect(step?.layers.map((l) => [l.kind, l.keys])).toEqual(Array.from({ length: layers }, () => ["memory", S]));
        const got = step?.layers.flatMap((l) => [...(l.weights ?? [])]) ?? [];
        const expected = Array.from({ length: layers * heads }, (_, lh) =>
          cross.slice((lh * T + t) * S, (lh * T + t + 1) * S),
        );
        const label = `${name}, step ${t}`;
        assertClose(
          got,
          expected.flatMap((row) => [...row]),
          { ...tolerance("f32", "attention"), label },
        );
      }
    }
    const both = model.generate([5, 6, 7], { maxTokens: 2, greedy: true, attention: { kinds: ["self", "memory"] } });
    const [, second] = (await both.result).attention ?? [];
    expect(second?.layers.map((l) => [l.kind, l.keys])).toEqual([
      ["self", 2],
      ["self", 2],
      ["memory", 3],
      ["memory", 3],
    ]);
    await model.dispose();
  });
});
