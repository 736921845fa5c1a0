import type { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import { type EncoderCliOptions, encoderCommand, textsOf, withEncoder } from "./encoder.ts";
import { collect } from "./option_types.ts";
import { note, printLine } from "./output.ts";

interface ClassifyCliOptions extends EncoderCliOptions {
  pair?: string[];
  truncate?: boolean;
}

const EXAMPLES = `  $ heed classify --model ./folder "What a wonderful film!"
  $ heed classify --model ./folder --json "What a wonderful film!" "Two hours that I will not get back."
  $ heed classify --model ./folder --pair "A man sleeps." "A man plays the guitar."`;

/** The command `heed classify`; `done` receives the exit code. */
export function classifyCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return encoderCommand("classify", "Say which label a text has", EXAMPLES)
    .argument("[texts...]", "texts; - reads one a line from stdin")
    .option("--pair <text>", "the second text of each, in their order, where the model reads two", collect)
    .option("--truncate", "leave out what is past the model's context")
    .action(async (texts: string[], options: ClassifyCliOptions) => done(await classify(texts, options, signal)));
}

async function classify(given: string[], options: ClassifyCliOptions, signal: AbortSignal): Promise<number> {
  const texts = await textsOf("classify", given);
  const { pair: pairs, truncate, json } = options;
  if (pairs && pairs.length !== texts.length) {
    throw new HeedError("USAGE", `classify: each text needs one --pair; got ${pairs.length} for ${texts.length}.`);
  }
  return withEncoder("classify", options, signal, async ({ model, onProgress, printJson }) => {
    const inputs = texts.map((text, i) => ({ text, ...(pairs ? { pair: pairs[i] as string } : {}) }));
    const results = await model.classify(inputs, { truncate, signal, onProgress });
    if (json) {
      printJson(results.length === 1 ? (results[0] as object) : { results });
      return;
    }
    for (const { label, score } of results) printLine(`${label}\t${score.toFixed(4)}`);
    if (results.some(({ truncated }) => truncated))
      note("heed: some text was longer than the model reads, and was cut");
  });
}
