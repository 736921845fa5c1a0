import type { Prepared, ReadText } from "./prepare.ts";
import type { Recipe } from "./recipe.ts";
import { HeedError } from "../core/errors.ts";

export async function prepareTranslation(recipe: Recipe, _readText: ReadText): Promise<Prepared> {
  throw new HeedError("UNSUPPORTED", `train: ${recipe.task}`);
}
