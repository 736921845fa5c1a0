import { type Command, Option } from "commander";
import type { LabelAggregation } from "../tasks/label.ts";
import { type EncoderCliOptions, encoderCommand, textsOf, withEncoder } from "./encoder.ts";
import { collect, numberIn } from "./option_types.ts";
import { printLine } from "./output.ts";

interface LabelCliOptions extends EncoderCliOptions {
  aggregation?: LabelAggregation;
  ignore?: string[];
  stride?: number;
}

const EXAMPLES = `  $ heed label --model ./folder "Ada Lovelace lived in London."
  $ heed label --model ./folder --aggregation average --json "Ada Lovelace lived in London."`;

/** The command `heed label`; `done` receives the exit code. */
export function labelCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return encoderCommand("label", "Find names, places and the like in a text", EXAMPLES)
    .argument("[texts...]", "texts; - reads one a line from stdin")
    .addOption(
      new Option("--aggregation <how>", "how tokens become entities; simple unless given").choices([
        ...["none", "simple", "first", "average", "max"],
      ]),
    )
    .option("--ignore <label>", "a label that is no entity, O unless given; may be given several times", collect)
    .option("--stride <n>", "tokens that windows of a long text have in common", numberIn({ min: 0, integer: true }))
    .action(async (texts: string[], options: LabelCliOptions) => done(await label(texts, options, signal)));
}

async function label(given: string[], options: LabelCliOptions, signal: AbortSignal): Promise<number> {
  const texts = await textsOf("label", given);
  return withEncoder("label", options, signal, async ({ model, onProgress, printJson }) => {
    const { aggregation, ignore, stride, json } = options;
    const results = await model.label(texts, { aggregation, ignore, stride, signal, onProgress });
    if (json) {
      printJson(
        results.length === 1 ? { entities: results[0] } : { results: results.map((entities) => ({ entities })) },
      );
      return;
    }
    for (const { label, text, score, start, end } of results.flat()) {
      printLine([label, text, score.toFixed(4), start, end].join("\t"));
    }
  });
}
