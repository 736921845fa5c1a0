import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { HeedError, throwIfAborted } from "../core/errors.ts";
import { folderError, makeFolder } from "../core/make_folder_node.ts";
import { diskFile } from "../train/data/files_node.ts";
import { badLine, notUtf8, readLines } from "../train/data/lines.ts";
import {
  TOKENIZER_SPLITS,
  TOKENIZER_TYPES,
  type TokenizerSplit,
  type TrainTokenizerOptions,
  trainTokenizer,
} from "../train/tokenizer/train_tokenizer.ts";
import { EXIT } from "./exit_codes.ts";
import { collect, numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";

interface CommandOptions extends TrainTokenizerOptions {
  output: string;
  skipBad?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Each line of a file is a text, with its line end; of a .tsv file each column is one, without. Files may end in .gz.

Examples:
  $ heed tokenizer train text.txt --type bpe --vocab-size 2000 --special "<|endoftext|>" --output ./tokenizer
  $ heed tokenizer train train.tsv --type unigram --vocab-size 2000 --special "<pad>" --end "</s>" --split han,punctuation --output .
  $ heed tokenizer train text.txt --type characters --output ./tokenizer

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`;

/** The command `heed tokenizer`; `done` receives the exit code. */
export function tokenizerCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("tokenizer").description("Train tokenizers").addCommand(
    new Command("train")
      .description("Train a tokenizer on text and write tokenizer.json and tokenizer_config.json")
      .argument("<files...>", "text files in UTF-8")
      .addOption(new Option("--type <type>", "what kind").choices(TOKENIZER_TYPES).makeOptionMandatory())
      .option("--vocab-size <n>", "tokens in all, special ones included", numberIn({ min: 1, integer: true }))
      .requiredOption("--output <folder>", "write there")
      .option("--special <token>", "a special token; may be given several times, ids in that order", collect)
      .option("--start <token>", "put this token before every text")
      .option("--end <token>", "put this token after every text")
      .option("--unknown <token>", 'for characters that the vocabulary lacks; "" for none (characters)')
      .option(
        "--min-frequency <n>",
        "join pairs that occur so often; 2 unless given",
        numberIn({ min: 1, integer: true }),
      )
      .option("--split <list>", `let no token span two: ${TOKENIZER_SPLITS.join(", ")}`, splits)
      .option("--lowercase", "fold case and accents (wordpiece)")
      .option("--skip-bad", "leave out lines that are not UTF-8")
      .option("--json", "print one JSON object when done")
      .addHelpText("after", EXAMPLES)
      .exitOverride()
      .showHelpAfterError("(--help shows the options)")
      .action(async (files: string[], options: CommandOptions) => {
        done(await train(files, options, signal));
      }),
  );
}

function splits(text: string): TokenizerSplit[] {
  return text.split(",").map((word) => {
    const name = TOKENIZER_SPLITS.find((known) => known === word.trim());
    if (!name) throw new InvalidArgumentError(`It must be of ${TOKENIZER_SPLITS.join(", ")}.`);
    return name;
  });
}

async function train(files: readonly string[], options: CommandOptions, signal: AbortSignal): Promise<number> {
  const started = performance.now();
  const { output, type } = options;
  if (existsSync(join(output, "tokenizer.json"))) {
    throw new HeedError(
      "USAGE",
      `tokenizer: the output must have no tokenizer yet; got one in ${output}, on whose ids a model may depend. Name another folder, or remove it.`,
    );
  }
  const { tokenizer, config } = await trainTokenizer(readTexts(files, options, signal), options);
  try {
    await makeFolder(output);
    await writeFile(join(output, "tokenizer.json"), `${JSON.stringify(tokenizer, null, 1)}\n`);
    await writeFile(join(output, "tokenizer_config.json"), `${JSON.stringify(config, null, 1)}\n`);
  } catch (cause) {
    throw folderError("tokenizer", output, cause);
  }
  const { vocab } = tokenizer["model"] as { vocab: object };
  const tokens = Object.keys(vocab).length;
  if (options.json) printLine(JSON.stringify({ output, type, tokens }));
  else printLine(output);
  note(`heed: ${tokens} tokens in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  const reason = otherSize(tokens, options);
  if (reason !== undefined) note(`heed: ${options.vocabSize} tokens were asked for: ${reason}`);
  return EXIT.OK;
}

/** Why there are more or fewer tokens than were asked for. */
function otherSize(tokens: number, { type, vocabSize = tokens, minFrequency = 2 }: CommandOptions): string | undefined {
  if (tokens > vocabSize) return "a unigram tokenizer keeps every character of its text";
  if (tokens === vocabSize || type === "characters") return undefined;
  if (type === "unigram") return "the text has no more pieces that occur twice";
  return `the text has no more pairs that occur ${minFrequency} times (--min-frequency)`;
}

/** The texts of the files: lines with their ends, or the columns of a table. */
async function* readTexts(
  files: readonly string[],
  { skipBad }: CommandOptions,
  signal: AbortSignal,
): AsyncGenerator<string> {
  for (const path of files) {
    const isTable = /\.tsv(\.gz)?$/.test(path);
    const file = diskFile(path);
    for await (const { number, text } of readLines(file)) {
      throwIfAborted(signal, "tokenizer train");
      if (text === undefined) {
        const bad = badLine(file, number, notUtf8());
        if (!skipBad) throw bad;
        note(`heed: left out: ${bad.message}`);
      } else if (isTable) yield* text.split("\t");
      else yield `${text}\n`;
    }
  }
}
