import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { scoreFolder, scoresLine } from "../../src/cli/finetune_scores.ts";
import { type ScoredRun, trainRecipe } from "../../src/train/run_node.ts";
import { taskOf } from "../../src/train/recipe.ts";
import { describeOnDevice } from "../support/devices.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-scores-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two documents, each of words of its own, so that a sentence of the other is told by its words. */
const TOPICS = [
  ["red", "old", "big", "new"],
  ["cat", "dog", "car", "hat"],
];
writeFileSync(
  join(folder, "topics.txt"),
  TOPICS.map((own) =>
    Array.from({ length: 16 }, (_, i) => `${own[i % 4]} ${own[(i + 1) % 4]} ${own[(i + 2) % 4]}\n`).join(""),
  ).join("\n"),
);

const RECIPE = {
  task: "pretraining",
  model: {
    ...{ model_type: "bert", hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
    ...{ max_position_embeddings: 16, type_vocab_size: 2 },
  },
  initialise: { std: 0.2 },
  tokenizer: { type: "wordpiece", size: 40 },
  data: { examples: "topics.txt", validation: "topics.txt" },
  ...{ batch: 16, length: 12, steps: 120, seed: 3, output: "out" },
  optimizer: { type: "adamw" },
  schedule: { type: "linear", learningRate: 6e-3, warmup: 3 },
};

describeOnDevice("scores of what was trained", (device) => {
  it("are accuracies of both of BERT's tasks far above chance, the same ones each time", {
    timeout: 120_000,
  }, async () => {
    const signal = new AbortController().signal;
    const score = ({ recipe: { length, ...recipe }, ...written }: ScoredRun) =>
      scoreFolder(device(), { ...written, task: taskOf(recipe), length, signal });
    const runs: ScoredRun[] = [];
    const result = await trainRecipe(device(), RECIPE, {
      folder,
      score: (run) => {
        runs.push(run);
        return score(run);
      },
    });
    const { maskedAccuracy, nextSentenceAccuracy } = result.scores ?? {};
    expect(maskedAccuracy).toBeGreaterThan(0.4);
    expect(nextSentenceAccuracy).toBeGreaterThan(0.8);
    expect(await score(runs[0] as ScoredRun)).toEqual(result.scores);
    expect(scoresLine(result.scores)).toMatch(/^, maskedAccuracy 0\.\d{4}, nextSentenceAccuracy [01]\.\d{4}$/);
  });
});

it("says nothing of what was not scored", () => {
  expect(scoresLine()).toBe("");
});
