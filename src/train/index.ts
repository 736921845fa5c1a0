import type { Engine } from "../tasks/engine.ts";
import { checkTraining } from "./open_options.ts";
import { type TaskOf, Training, type TrainingOptions } from "./training.ts";

/**
 * Opens a recipe for training on an engine's device: what `heed train` runs, in a page too. Whoever opened it disposes it. Throws
 * `USAGE` for a recipe that is not understood in full, `BAD_FILE` and `UNSUPPORTED`.
 *
 * @example
 * const training = await openTraining(engine, recipe, { readText: (path) => fetch(path).then((r) => r.text()) });
 * for await (const { step, loss } of training) console.log(step, loss);
 */
export async function openTraining<const R>(
  engine: Engine,
  recipe: R,
  options: TrainingOptions,
): Promise<Training<TaskOf<R>>> {
  checkTraining(engine, options);
  return Training.open(engine.device, recipe, options);
}

export type { Finetuning } from "./finetune.ts";
export type { TunedModel } from "./finetune_models.ts";
export { type FinetuneExamples, openFinetuning, type FinetuningOptions } from "./open_finetuning.ts";
export type { Recipe } from "./recipe.ts";
export type { TrainingProgress } from "./trainer.ts";
export type { ModelFiles, TrainedModel, Training, TrainingOptions } from "./training.ts";
