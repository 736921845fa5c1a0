import type { Command } from "commander";
import { shippedModel } from "../sources/shipped_node.ts";
import { runSeq2Seq, type Seq2SeqCliOptions, seq2SeqCommand } from "./seq2seq.ts";

interface TranslateCliOptions extends Seq2SeqCliOptions {
  from?: string;
  to?: string;
}

const EXAMPLES = `  $ heed translate "你好，我的朋友。"
  $ heed translate --model hf:owner/name --beams 4 "Wie geht es dir?" "Bis morgen!"
  $ heed translate --model ./many --to fra --json "How are you?" | jq -r .text
  $ heed translate - < lines.txt > translated.txt`;

/** The command `heed translate`; `done` receives the exit code. */
export function translateCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return seq2SeqCommand(
    "translate",
    "Translate texts; without --model from Chinese to English, with Heed's own small model",
    EXAMPLES,
  )
    .option("--from <language>", "language of the text, where the model has several: its tokenizer's code")
    .option("--to <language>", "language to translate to, where the model has several")
    .action(async (texts: string[], options: TranslateCliOptions) => {
      const { from, to } = options;
      const work = {
        one: (model, text, generate) => model.translation(text, { ...generate, from, to }),
        many: (model, all, generate) => model.translate(all, { ...generate, from, to }),
      } satisfies Parameters<typeof runSeq2Seq>[3]["work"];
      done(await runSeq2Seq("translate", texts, options, { signal, work, fallback: () => shippedModel("translate") }));
    });
}
