import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Argument, Command } from "commander";
import { folderError, makeFolder } from "../core/make_folder_node.ts";
import { everydayCorpus, type SentencePair } from "../train/corpus/everyday.ts";
import { EXIT } from "./exit_codes.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";

interface CommandOptions {
  output: string;
  seed?: number;
  train?: number;
  validation?: number;
  test?: number;
}

const EXAMPLES = `
Writes train.tsv, validation.tsv and test.tsv: a Chinese sentence, a tab, its English one. No combination of subject, verb and
object (or of subject and quality, thing and place …) of the last two occurs in the first.

Examples:
  $ heed corpus zh-en --output ./corpus
  $ heed corpus zh-en --output ./corpus --train 50000 --seed 2

Exit codes: 0 done, 1 failed, 2 wrong usage.`;

const COUNT = { min: 1, integer: true };

/** The command `heed corpus`; `done` receives the exit code. */
export function corpusCommand(done: (code: number) => void): Command {
  return new Command("corpus")
    .description("Write the sentences that the shipped translator was trained on")
    .addArgument(new Argument("<name>", "Chinese to English, from a grammar of everyday sentences").choices(["zh-en"]))
    .requiredOption("--output <folder>", "write there")
    .option(
      "--seed <n>",
      "same seed, same sentences; 1 unless given",
      numberIn({ min: 0, max: 2 ** 32 - 1, integer: true }),
    )
    .option("--train <n>", "distinct pairs to train on; 100,000 unless given", numberIn(COUNT))
    .option("--validation <n>", "held-out pairs to choose by; 1,000 unless given", numberIn(COUNT))
    .option("--test <n>", "held-out pairs to report; 2,000 unless given", numberIn(COUNT))
    .addHelpText("after", EXAMPLES)
    .action(async (_name: string, { output, ...options }: CommandOptions) => {
      const corpus = everydayCorpus(options);
      try {
        await makeFolder(output);
        for (const part of ["train", "validation", "test"] as const) {
          await writeFile(join(output, `${part}.tsv`), corpus[part].map(lineOf).join(""));
        }
      } catch (cause) {
        throw folderError("corpus", output, cause);
      }
      printLine(output);
      note(`heed: ${corpus.train.length} + ${corpus.validation.length} + ${corpus.test.length} pairs`);
      done(EXIT.OK);
    });
}

function lineOf({ zh, en }: SentencePair): string {
  return `${zh}\t${en}\n`;
}
