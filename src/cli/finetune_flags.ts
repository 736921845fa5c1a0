import { HeedError } from "../core/errors.ts";
import { checkSetting, type Task } from "../train/tasks.ts";

/** The flags of `heed finetune` that mean something only for some tasks, or only beside another flag. */
export interface DependentFlags {
  readonly task: Task;
  readonly lora?: boolean;
  readonly rank?: number;
  readonly alpha?: number;
  readonly loraDropout?: number;
  readonly targets?: string;
  readonly train: string;
  readonly dtype: string;
  readonly maskRate?: number;
  readonly buffer?: number;
  readonly eval?: string;
  readonly evaluateEvery?: number;
  readonly patience?: number;
  readonly keep?: "last" | "best";
}

/** Refuses flags that would do nothing, before a model is fetched. Throws `USAGE`, which names the flag and what it needs. */
export function checkFlags(flags: DependentFlags): void {
  checkTask(flags);
  checkAdapter(flags);
  checkEvaluations(flags);
}

function checkTask({ task, maskRate, buffer, train }: DependentFlags): void {
  const command = "finetune";
  if (maskRate !== undefined) checkSetting(task, "maskRate", { command, name: "--mask-rate" });
  if (buffer !== undefined) checkSetting(task, "buffer", { command, name: "--buffer" });
  if (train === "head") checkSetting(task, "head", { command, name: "--train head" });
}

function checkAdapter({ lora, rank, alpha, loraDropout, targets, train, dtype }: DependentFlags): void {
  if (lora) {
    if (train === "all") return;
    throw new HeedError(
      "USAGE",
      `finetune: --lora trains an adapter instead of the weights, and a fresh head beside it; got --train ${train} too. Leave one of them out, or name the adapter's layers with --targets.`,
    );
  }
  const given = Object.entries({
    ...{ "--rank": rank, "--alpha": alpha, "--lora-dropout": loraDropout, "--targets": targets },
    ...(dtype === "q8_0" || dtype === "q4_0" ? { [`--dtype ${dtype}`]: dtype } : {}),
  }).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (given.length > 0) {
    const needs = given.length > 1 ? "need" : "needs";
    throw new HeedError(
      "USAGE",
      `finetune: ${given.join(", ")} ${needs} --lora, without which the weights themselves are tuned; got none. Add --lora, or leave ${given.join(", ")} out.`,
    );
  }
  if (train === "all" || train === "head") return;
  try {
    new RegExp(train);
  } catch (cause) {
    const message = `finetune: --train must be all, head, or a regular expression; got ${train}.`;
    throw new HeedError("USAGE", message, { cause });
  }
}

/** The best is one of evaluations, which read what is held out. */
function checkEvaluations({ eval: file, evaluateEvery, patience, keep }: DependentFlags): void {
  const asked =
    patience !== undefined
      ? "--patience counts evaluations"
      : keep === "best"
        ? "--keep best chooses among evaluations"
        : evaluateEvery !== undefined
          ? "--evaluate-every says when to evaluate"
          : undefined;
  if (asked === undefined) return;
  const missing =
    file === undefined
      ? "--eval, a file of held-out examples"
      : evaluateEvery === undefined
        ? "--evaluate-every"
        : undefined;
  if (missing) throw new HeedError("USAGE", `finetune: ${asked}, so it needs ${missing}; got none.`);
}
