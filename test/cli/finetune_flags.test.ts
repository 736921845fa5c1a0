import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TASKS, type Task } from "../../src/train/tasks.ts";
import { runMain } from "../support/cli.ts";

/** The tasks that heed a flag, by what they do with it. */
const MASKING: readonly Task[] = ["masked-lm", "pretraining", "masked-translation", "span-corruption"];
const WITH_HEAD: readonly Task[] = ["classification", "labels", "masked-lm", "next-sentence", "pretraining", "answer"];
const LINE_BY_LINE: readonly Task[] = TASKS.filter((task) => task !== "answer");

/** There is no such model: flags are refused before one is looked for. */
async function finetune(task: Task, ...flags: string[]) {
  const nowhere = join(tmpdir(), "heed-no-such-model");
  const places = ["--model", nowhere, "--data", join(nowhere, "data.txt"), "--output", join(nowhere, "out")];
  const { code, stderr } = await runMain(["finetune", "--task", task, ...places, ...flags]);
  return { code, stderr };
}

describe("heed finetune's flags", () => {
  it.each([
    [["--mask-rate", "0.3"], MASKING],
    [["--train", "head"], WITH_HEAD],
    [["--buffer", "10"], LINE_BY_LINE],
  ] as const)("%j is refused for the tasks that would not heed it", async (flags, heeding) => {
    for (const task of TASKS) {
      const { code, stderr } = await finetune(task, ...flags);
      const refusal = new RegExp(`${flags[0]}.* does nothing here: task ${task} .*${heeding[0]}`);
      if (heeding.includes(task)) expect([task, stderr]).toEqual([task, expect.not.stringContaining("does nothing")]);
      else expect([task, code, stderr]).toEqual([task, 2, expect.stringMatching(refusal)]);
    }
  });

  it.each([
    [["--rank", "4"], /--rank needs --lora/],
    [["--alpha", "4"], /--alpha needs --lora/],
    [["--lora-dropout", "0"], /--lora-dropout needs --lora/],
    [["--targets", "c_attn"], /--targets needs --lora/],
    [["--rank", "4", "--targets", "c_attn"], /--rank, --targets need --lora/],
    [["--dtype", "q8_0"], /--dtype q8_0 needs --lora/],
    [["--lora", "--train", "head"], /--lora trains an adapter .* got --train head/],
    [["--lora", "--train", "layers"], /--lora trains an adapter .* got --train layers/],
    [["--train", "("], /--train must be all, head, or a regular expression; got \(/],
    [["--evaluate-every", "5"], /--evaluate-every .* needs --eval/],
    [["--keep", "best", "--eval", "held.tsv"], /--keep best .* needs --evaluate-every/],
    [["--patience", "5", "--keep", "last"], /--patience .* needs --eval/],
  ])("%j lacks what it needs", async (flags, message) => {
    const { code, stderr } = await finetune("classification", ...flags);
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  it("are taken together where they belong together", async () => {
    const adapter = ["--lora", "--rank", "4", "--alpha", "8", "--lora-dropout", "0.1", "--targets", "q_proj"];
    const evaluations = ["--eval", "held.tsv", "--evaluate-every", "5", "--patience", "2", "--keep", "best"];
    const { stderr } = await finetune("classification", ...adapter, ...evaluations, "--dtype", "q8_0");
    expect(stderr).not.toMatch(/needs?\b/);
    expect(stderr).toMatch(/heed-no-such-model/);
  });
});
