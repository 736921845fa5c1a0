import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { GenerateOptions } from "../../src/tasks/generation_options.ts";
import { readJson } from "../support/assets.ts";
import { describeOnTiers } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";

interface BeamCase {
  ids: number[];
  settings: Record<string, never>;
  sequences: { tokens: number[]; score: number }[];
}

const CASES = readJson<BeamCase[]>(new URL("../fixtures/beams.json", import.meta.url).pathname);

/** Options of `generate` that mean what the settings of `transformers` mean. */
function optionsOf({ settings: s, ids }: BeamCase): GenerateOptions {
  return {
    ...{ beams: s["num_beams"], numReturn: s["num_return_sequences"], maxTokens: s["max_new_tokens"] },
    ...{ lengthPenalty: s["length_penalty"], earlyStopping: s["early_stopping"] },
    ...{ noRepeatNgram: s["no_repeat_ngram_size"], badWords: s["bad_words_ids"], suppressTokens: s["suppress_tokens"] },
    beginSuppressTokens: s["begin_suppress_tokens"],
    // After other prompts transformers does without it, and Heed says so.
    forcedBos: ids.length === 1 ? s["forced_bos_token_id"] : undefined,
    ...{ forcedEos: s["forced_eos_token_id"], minLength: s["min_new_tokens"] },
    repetitionPenalty: s["repetition_penalty"],
  };
}

await describeOnTiers("beam search of transformers", (engine) => {
  it("gives the same sequences and scores with every setting", async () => {
    const stated = new Set(CASES.map(statedBy));
    for (const end of stated) {
      const model = await engine().load(withStated(end));
      try {
        const cases = CASES.filter((c) => statedBy(c) === end);
        for (const one of cases) {
          const { ids, settings, sequences } = one;
          const { sequences: found = [] } = await model.generate(ids, optionsOf(one)).result;
          const context = `${JSON.stringify(settings)} after ${ids.join()}`;
          expect(
            found.map((f) => f.ids),
            context,
          ).toEqual(sequences.map((s) => s.tokens));
          for (const [i, { score }] of sequences.entries()) expect(found[i]?.score, context).toBeCloseTo(score, 3);
        }
      } finally {
        await model.dispose();
      }
    }
  });
});

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** What is the checkpoint's to say: its generation_config.json. */
function statedBy({ settings }: BeamCase): string {
  const { eos_token_id = null, renormalize_logits = false } = settings;
  return JSON.stringify({ eos_token_id, renormalize_logits });
}

/** A copy of the checkpoint with that generation_config.json. */
function withStated(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "heed-beams-"));
  folders.push(folder);
  for (const file of ["config.json", "model.safetensors"])
    cpSync(join(goldenPath("llama_gqa"), file), join(folder, file));
  writeFileSync(join(folder, "generation_config.json"), text);
  return folder;
}
