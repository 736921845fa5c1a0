import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import { type EncoderCliOptions, encoderCommand, withEncoder } from "./encoder.ts";
import { readStdin } from "./model.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";

interface AnswerCliOptions extends EncoderCliOptions {
  context?: string;
  contextFile?: string;
  top?: number;
  maxTokens?: number;
  stride?: number;
  maxAnswerTokens?: number;
  noAnswer: boolean;
}

const EXAMPLES = `  $ heed answer --model ./folder --context "Ada Lovelace wrote the first program." "Who wrote the first program?"
  $ heed answer --model ./folder --context-file article.txt --top 3 --json "When was it built?"
  $ cat article.txt | heed answer --model ./folder --context - "When was it built?"`;

/** The command `heed answer`; `done` receives the exit code. */
export function answerCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const count = numberIn({ min: 1, integer: true });
  return encoderCommand("answer", "Find the answer to a question in a text", EXAMPLES)
    .argument("<question>", "what is asked")
    .option("--context <text>", "the text that has the answer; - reads it from stdin")
    .option("--context-file <path>", "a file with that text")
    .option("--top <n>", "answers to give with --json; 1 unless given", count)
    .option("--max-tokens <n>", "tokens of a window of a long text", count)
    .option("--stride <n>", "tokens that windows have in common", numberIn({ min: 0, integer: true }))
    .option("--max-answer-tokens <n>", "tokens of an answer at most; 30 unless given", count)
    .option("--no-no-answer", "give the best span even where there being none is likelier")
    .action(async (question: string, options: AnswerCliOptions) => done(await answer(question, options, signal)));
}

async function answer(question: string, options: AnswerCliOptions, signal: AbortSignal): Promise<number> {
  const context = await contextOf(options);
  return withEncoder("answer", options, signal, async ({ model, onProgress, printJson }) => {
    const { top, maxTokens, stride, maxAnswerTokens, json } = options;
    const call = { top, maxTokens, stride, maxAnswerTokens, noAnswer: options["noAnswer"], signal, onProgress };
    const result = await model.answer({ question, context }, call);
    if (json) {
      const place = { start: result.start ?? null, end: result.end ?? null };
      printJson({ ...result, ...place, hasAnswer: result.start !== undefined });
      return;
    }
    printLine(result.text);
    if (result.start === undefined) note(`heed: no answer in the text (${result.score.toFixed(3)})`);
    else note(`heed: score ${result.score.toFixed(3)}, characters ${result.start} to ${result.end}`);
  });
}

async function contextOf({ context, contextFile }: AnswerCliOptions): Promise<string> {
  if ((context === undefined) === (contextFile === undefined)) {
    throw new HeedError("USAGE", "answer: one text is needed, as --context or --context-file.");
  }
  if (context === "-") return readStdin();
  if (context !== undefined) return context;
  const path = contextFile as string;
  return readFile(path, "utf8").catch(() => {
    throw new HeedError("USAGE", `answer: there is no readable file ${path}.`);
  });
}
