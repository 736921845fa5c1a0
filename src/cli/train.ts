import { Command, Option } from "commander";
import { resolve } from "node:path";
import { TIERS, type Tier } from "../gpu/tiers.ts";
import { Device } from "../gpu/device.ts";
import { type Precision, PRECISIONS } from "../train/mixed.ts";
import { parseRecipe, taskOf } from "../train/recipe.ts";
import { readRecipeFile, trainRecipe } from "../train/run_node.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openGpu } from "./gpu.ts";
import { scoreFolder, scoresLine } from "./finetune_scores.ts";
import { note, printLine } from "./output.ts";
import { RECIPE_HELP } from "./train_help.ts";
import { keptLine, trainingProgress } from "./training_progress.ts";

interface CommandOptions extends GpuOptions {
  resume?: boolean;
  output?: string;
  data?: string;
  precision?: Precision;
  tier?: Tier;
  json?: boolean;
}

const EXAMPLES = `${RECIPE_HELP}

--resume keeps the checkpoint's tokenizer and labels, however the data has changed, and says if it has.
A recipe with another model, task or tokenizer is refused; other steps and rates are not.

Examples:
  $ heed train recipe.json
  $ heed train recipe.json --resume
  $ heed train recipe.json --data text.txt --output ./run

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted (a checkpoint is written first).`;

/** The command `heed train`; `done` receives the exit code. */
export function trainCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("train")
    .description("Train a model from zero as a recipe says")
    .argument("<recipe>", "a JSON file")
    .option("--resume", "go on from the newest checkpoint in the output folder")
    .option("--output <folder>", "write there instead of where the recipe says")
    .option("--data <path>", "a file to train on instead of the recipe's, or the folder of its parallel text")
    .addOption(
      new Option("--precision <p>", "instead of the recipe's; mixed: products of f16 under a scaled loss").choices(
        PRECISIONS,
      ),
    )
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--json", "print one JSON object when done")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText("after", EXAMPLES)
    .action(async (path: string, options: CommandOptions) => {
      done(await train(path, options, signal));
    });
}

async function train(path: string, options: CommandOptions, signal: AbortSignal): Promise<number> {
  const { recipe, folder } = await readRecipeFile(path);
  // Before a GPU is looked for: a recipe that is wrong is wrong everywhere.
  parseRecipe(recipe);
  const gpu = await openGpu(options);
  const device = await Device.request({ gpu, tier: options.tier });
  const progress = trainingProgress();
  try {
    const result = await trainRecipe(device, recipe, {
      folder,
      output: options.output && resolve(options.output),
      text: options.data,
      precision: options.precision,
      resume: options.resume,
      signal,
      onProgress: (update) => progress.update(update),
      onNote: (text) => note(`heed: ${text}`),
      score: ({ recipe: { length, maskRate, ...own }, ...written }) =>
        scoreFolder(device, { ...written, task: taskOf(own), length, maskRate, signal }),
    });
    progress.stop();
    if (options.json) printLine(JSON.stringify(result));
    else printLine(result.output);
    const held = result.validationLoss === undefined ? "" : `, held-out loss ${result.validationLoss.toFixed(4)}`;
    const end = `${held}${scoresLine(result.scores)}${keptLine(result)}`;
    note(`heed: ${result.steps} steps, loss ${result.loss.toFixed(4)}${end}`);
    return EXIT.OK;
  } finally {
    progress.stop();
    device.dispose();
  }
}
