import type { Command } from "commander";
import { needModel, runSeq2Seq, type Seq2SeqCliOptions, seq2SeqCommand } from "./seq2seq.ts";

const EXAMPLES = `  $ heed summarize --model hf:owner/name "$(cat article.txt)"
  $ heed summarize --model ./bart --beams 4 --json - < articles_one_a_line.txt | jq .results`;

/** The command `heed summarize`; `done` receives the exit code. */
export function summarizeCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return seq2SeqCommand("summarize", "Summarize texts with an encoder-decoder such as BART or T5", EXAMPLES).action(
    async (texts: string[], options: Seq2SeqCliOptions) => {
      const work = {
        one: (model, text, generate) => model.summary(text, generate),
        many: (model, all, generate) => model.summarize(all, generate),
      } satisfies Parameters<typeof runSeq2Seq>[3]["work"];
      done(await runSeq2Seq("summarize", texts, options, { signal, work, fallback: () => needModel("summarize") }));
    },
  );
}
