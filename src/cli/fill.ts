import type { Command } from "commander";
import { type EncoderCliOptions, encoderCommand, textsOf, withEncoder } from "./encoder.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";

interface FillCliOptions extends EncoderCliOptions {
  top?: number;
}

const EXAMPLES = `  $ heed fill --model ./bert "Paris is the [MASK] of France."
  $ heed fill --model ./roberta --top 3 --json "Paris is the <mask> of France."`;

/** The command `heed fill`; `done` receives the exit code. */
export function fillCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return encoderCommand("fill", "Find the words behind the masks of a text", EXAMPLES)
    .argument("[texts...]", "texts with masks; - reads one a line from stdin")
    .option("--top <n>", "words for each mask; 5 unless given", numberIn({ min: 1, integer: true }))
    .action(async (texts: string[], options: FillCliOptions) => done(await fill(texts, options, signal)));
}

async function fill(given: string[], options: FillCliOptions, signal: AbortSignal): Promise<number> {
  const texts = await textsOf("fill", given);
  return withEncoder("fill", options, signal, async ({ model, onProgress, printJson }) => {
    const results = await model.fill(texts, { top: options.top, signal, onProgress });
    if (options.json) {
      printJson(results.length === 1 ? (results[0] as object) : { results });
      return;
    }
    for (const { text, masks } of results) {
      printLine(text);
      for (const words of masks) note(words.map((word) => `${word.text} ${word.score.toFixed(3)}`).join(", "));
    }
  });
}
