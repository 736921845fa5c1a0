import { expect, it } from "vitest";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { type GoldenCase, GOLDEN_NAMES, goldenPath, readGolden } from "../support/goldens.ts";
import { tolerance } from "../support/tolerances.ts";

await describeOnTiers("checkpoints of transformers", (engine) => {
  it.each(GOLDEN_NAMES)("%s: logits and greedy tokens", async (name) => {
    const model = await engine().load(goldenPath(name));
    try {
      for (const golden of readGolden(name)) {
        if (golden.ids.length > model.contextLength) {
          // Dynamic scaling changes the frequencies of earlier keys past max_position_embeddings: Heed's context ends there.
          // That of LongRoPE ends at the original length, unless a longer one is asked for.
          await expect(model.logits(golden.ids)).rejects.toMatchObject({ code: "LIMIT" });
          if (name !== "phi3_longrope") continue;
          const long = await engine().load(goldenPath(name), { cacheTokens: 1024 });
          await check(long, golden, name);
          await long.dispose();
          continue;
        }
        await check(model, golden, name);
      }
    } finally {
      await model.dispose();
    }
  });
});

async function check(model: TextModel, golden: GoldenCase, name: string) {
  const logits = await model.logits(golden.ids);
  const flat = Float32Array.from(logits.flatMap((row) => [...row]));
  assertClose(flat, golden.logits, {
    ...tolerance("f32", "logits"),
    label: name,
    shape: [golden.ids.length, model.vocabSize],
  });
  const { ids } = await model.generate(golden.ids, { greedy: true, maxTokens: 16 }).result;
  expect(ids.generated).toEqual(golden.greedy.slice(0, ids.generated.length));
  if (golden.beams.length > 0) await checkBeams(model, golden);
  if (golden.prefix) await checkPrefix(model, golden.ids, golden.prefix, name);
}

/** The four best of a search with four beams. */
async function checkBeams(model: TextModel, { ids, beams }: GoldenCase) {
  const { sequences = [] } = await model.generate(ids, { beams: 4, numReturn: 4, maxTokens: 8 }).result;
  expect(sequences.map((s) => s.ids)).toEqual(beams.map((b) => b.tokens));
  assertClose(
    Float32Array.from(sequences, (s) => s.score),
    beams.map((b) => b.score),
    { ...tolerance("f32", "logits"), label: "scores" },
  );
}

/** Logits with and without the cache, and greedy tokens, where the first tokens see each other both ways. */
async function checkPrefix(model: TextModel, ids: number[], prefix: Required<GoldenCase>["prefix"], name: string) {
  const options = { prefixLength: prefix.length };
  const cached = await model.logits(ids, options);
  const whole = (await model.run(ids, options)).logits ?? [];
  for (const logits of [cached, whole]) {
    assertClose(Float32Array.from(logits.flatMap((row) => [...row])), prefix.logits, {
      ...tolerance("f32", "logits"),
      label: `${name} with a prefix of ${prefix.length}`,
      shape: [ids.length, model.vocabSize],
    });
  }
  const generated = await model.generate(ids, { greedy: true, maxTokens: 16, ...options }).result;
  expect(generated.ids.generated).toEqual(prefix.greedy);
}
