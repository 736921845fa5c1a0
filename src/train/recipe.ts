import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { describeFaults, type Fault } from "../core/faults.ts";
import { EVALUATIONS, SETTINGS, share, whole } from "./settings.ts";
import { checkSetting, type Task, TASKS, type TaskSetting } from "./tasks.ts";
import { TOKENIZER_SPLITS, TOKENIZER_TYPES } from "./tokenizer/train_tokenizer.ts";

const path = v.pipe(v.string(), v.nonEmpty());

/** A file that is too large for memory is read so many lines at a time, which are shuffled among each other. */
const streamed = { buffer: v.optional(whole(1)), skipBad: v.optional(v.boolean()) };

/** What data can be, by the field that says which. */
const DATA = {
  /** One text; its last `validationShare` is held out where there is no `validation`: a tenth unless it says otherwise. */
  text: v.strictObject({ text: path, validation: v.optional(path), validationShare: v.optional(share), ...streamed }),
  /** A file of examples in the task's format (`heed finetune --help`); nothing of it is held out unless a share is named. */
  examples: v.strictObject({
    ...{ examples: path, validation: v.optional(path), validationShare: v.optional(share), ...streamed },
  }),
  /** Parallel text in two files, line by line. */
  source: v.strictObject({
    ...{ source: path, target: path, validationSource: v.optional(path), validationTarget: v.optional(path) },
    ...streamed,
  }),
  /** The grammar of everyday sentences, Chinese to English. */
  grammar: v.strictObject({ grammar: v.literal("zh-en"), seed: v.optional(whole(0)), pairs: v.optional(whole(1)) }),
};

/** All fields of a recipe. */
export const RECIPE_SCHEMA = v.strictObject({
  $comment: v.optional(v.string()),
  /** `language-model` is `lm` by its older name. */
  task: v.picklist(["language-model", ...TASKS]),
  /** config.json of the model; `vocab_size` is the tokenizer's where it is left out. */
  model: v.record(v.string(), v.unknown()),
  /** How fresh parameters are drawn. */
  initialise: v.optional(
    v.strictObject({ scheme: v.optional(v.picklist(["gpt2", "xavier"])), std: v.optional(v.number()) }),
  ),
  tokenizer: v.variant("type", [
    v.strictObject({ type: v.literal("file"), path }),
    /** Trained on the data; the fields are those of `trainTokenizer`, `size` its `vocabSize`. */
    v.strictObject({
      type: v.picklist(TOKENIZER_TYPES),
      size: v.optional(whole(1)),
      special: v.optional(v.array(v.string())),
      start: v.optional(v.string()),
      end: v.optional(v.string()),
      unknown: v.optional(v.string()),
      minFrequency: v.optional(whole(1)),
      split: v.optional(v.array(v.picklist(TOKENIZER_SPLITS))),
      lowercase: v.optional(v.boolean()),
    }),
  ]),
  data: v.union([DATA.text, DATA.examples, DATA.source, DATA.grammar]),
  ...SETTINGS,
  /** Of the loss in mixed precision. */
  lossScale: v.optional(v.strictObject({ initial: v.optional(v.number()), growEvery: v.optional(whole(1)) })),
  evaluate: v.optional(v.strictObject({ ...EVALUATIONS, batches: v.optional(whole(1)) })),
  checkpoint: v.optional(v.strictObject({ every: v.optional(whole(1)), keep: v.optional(whole(1)) })),
  /** generation_config.json of the result. */
  generation: v.optional(v.record(v.string(), v.unknown())),
  /** Of the result's matrices. Default f32. */
  dtype: v.optional(v.picklist(["f32", "f16"])),
  /** Folder of the result, from the recipe's own. */
  output: path,
});

/** What `heed train` reads: model, data, and how to train. Paths are from the recipe's own folder. */
export type Recipe = v.InferOutput<typeof RECIPE_SCHEMA>;

/** The task of a recipe. */
export function taskOf({ task }: Pick<Recipe, "task">): Task {
  return task === "language-model" ? "lm" : task;
}

/** Checks a recipe. Throws `USAGE` naming every field that is missing, malformed or unknown. */
export function parseRecipe(value: unknown): Recipe {
  const result = v.safeParse(RECIPE_SCHEMA, value);
  if (result.success) {
    checkFields(result.output);
    return result.output;
  }
  const issues = result.issues.flatMap((issue) => (issue.type === "union" ? faultsOfData(issue.input) : [issue]));
  throw new HeedError(
    "USAGE",
    `train: the recipe must be understood in full; ${describeFaults(issues, "recipe")}. \`heed train --help\` names the fields.`,
  );
}

/** What is wrong with `data`, by the field that says what it is. */
function faultsOfData(input: unknown): Fault[] {
  const path = [{ key: "data" }];
  const given = typeof input === "object" && input !== null ? Object.keys(input) : [];
  const [kind, another] = (Object.keys(DATA) as (keyof typeof DATA)[]).filter((name) => given.includes(name));
  if (kind === undefined || another !== undefined) {
    const expected = "an object with one of text, examples, source (and target), or grammar";
    return [{ type: "union", expected, received: given.join(", ") || "none", message: "", path }];
  }
  const { issues = [] } = v.safeParse(DATA[kind], input);
  return issues.map((issue) => ({ ...issue, path: [...path, ...(issue.path ?? [])] }));
}

/** Refuses fields that would do nothing. */
function checkFields(recipe: Recipe): void {
  const { data, evaluate } = recipe;
  const refuse = (field: string, why: string) =>
    new HeedError("USAGE", `train: ${field} does nothing here: ${why}. Leave it out of the recipe.`);
  const ofTask = (setting: TaskSetting, name: string, value: unknown): void => {
    if (value !== undefined) checkSetting(taskOf(recipe), setting, { command: "train", name });
  };
  ofTask("maskRate", "maskRate", recipe.maskRate);
  ofTask("generation", "generation", recipe.generation);
  if ("buffer" in data) ofTask("buffer", "data.buffer", data.buffer);
  if ("examples" in data && data.validation !== undefined && data.validationShare !== undefined)
    throw refuse("data.validationShare", "data.validation names what is held out");
  if (evaluate?.keep !== "best") return;
  const fault =
    evaluate.every === undefined
      ? "evaluate.every, since it chooses among evaluations; got none. Add it"
      : holdsOut(data)
        ? undefined
        : "held-out data to evaluate on; got none. Name some in data (validation, or validationShare of one file)";
  if (fault) throw new HeedError("USAGE", `train: evaluate.keep "best" needs ${fault}, or keep the last weights.`);
}

/** False for data of which nothing is held out. */
function holdsOut(data: Recipe["data"]): boolean {
  if ("grammar" in data) return true;
  if ("source" in data) return data.validationSource !== undefined || data.validationTarget !== undefined;
  if (data.validation !== undefined) return true;
  return "text" in data ? data.buffer === undefined && data.validationShare !== 0 : (data.validationShare ?? 0) > 0;
}
