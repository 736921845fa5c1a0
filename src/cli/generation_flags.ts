import { type Command, InvalidArgumentError, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import type { GenerateOptions } from "../tasks/generation_options.ts";
import { addCacheFlags, addCheckpointFlags, addGpuFlags, DECODER_SPECS } from "./model_flags.ts";
import { collect, numberIn, tokenIds } from "./option_types.ts";

/** The options of commands that generate, as commander delivers them. */
export interface GenerationFlags extends Omit<GenerateOptions, "signal" | "badWords" | "noRepeatNgram" | "logprobs"> {
  badWords?: number[][];
  /** True where it was not given: commander takes `--no-…` for a negation. */
  repeatNgram?: number | true;
  logprobs?: number;
}

const FRACTION = { above: 0, max: 1 };
const COUNT = { min: 0, integer: true };

/** Adds what all commands that generate have: how tokens are chosen, and what ends the text. */
export function addGenerationFlags(command: Command): Command {
  return command
    .option("--max-tokens <n>", "stop after this many tokens; 256 unless given", numberIn({ min: 1, integer: true }))
    .option("--greedy", "always take the likeliest token")
    .option(
      "--temperature <t>",
      "divide the logits by this before drawing; 0 is --greedy",
      numberIn({ min: 0, max: 100 }),
    )
    .option("--top-k <k>", "draw from the k likeliest tokens; 0 is all", numberIn(COUNT))
    .option("--top-p <p>", "draw from the likeliest tokens that together have this probability", numberIn(FRACTION))
    .option("--min-p <p>", "drop tokens below this share of the likeliest one", numberIn({ min: 0, max: 1 }))
    .option(
      "--repetition-penalty <r>",
      "make tokens that occurred less likely; 1 is none",
      numberIn({ above: 0, max: 100 }),
    )
    .option(
      "--seed <n>",
      "same seed, same adapter: same text",
      numberIn({ min: 0, max: Number.MAX_SAFE_INTEGER, integer: true }),
    )
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--beams <n>", "search with so many hypotheses", numberIn({ min: 1, max: 32, integer: true }))
    .option("--num-return <n>", "print so many results of a search", numberIn({ min: 1, max: 32, integer: true }))
    .option(
      "--length-penalty <p>",
      "above 0 a search favours long results; default 1",
      numberIn({ min: -100, max: 100 }),
    )
    .addOption(earlyStoppingOption())
    .option("--no-repeat-ngram <n>", "no run of so many tokens comes twice", numberIn({ min: 1, integer: true }))
    .option("--bad-words <ids>", "token ids that never come in a row; may be given several times", collectIds)
    .option("--suppress-tokens <ids>", "token ids that never come", tokenIds)
    .option("--begin-suppress-tokens <ids>", "token ids that do not come first", tokenIds)
    .option("--forced-bos <id>", "the token id that follows a prompt of one token", numberIn(COUNT))
    .option("--forced-eos <id>", "the token id that comes last at --max-tokens", numberIn(COUNT))
    .option("--min-length <n>", "so many new tokens before the end", numberIn(COUNT))
    .option(
      "--logprobs <k>",
      "log-probabilities, with those of the k likeliest tokens",
      numberIn({ ...COUNT, max: 64 }),
    );
}

/** When a search ends; for every command that searches. */
export function earlyStoppingOption(): Option {
  return new Option("--early-stopping <when>", "when a search ends: true is with as many results as beams")
    .choices(["true", "false", "never"])
    .argParser((text): boolean | "never" => {
      if (text === "never") return text;
      if (text === "true" || text === "false") return text === "true";
      throw new InvalidArgumentError("It must be true, false or never.");
    });
}

/** Adds what all commands that write text with a model have. */
export function addModelFlags(command: Command): Command {
  return addGpuFlags(addCacheFlags(addCheckpointFlags(command, DECODER_SPECS)));
}

/** The options of `generate` that the flags mean. Throws `USAGE`, in the name of `command`, for flags that contradict each other. */
export function generateOptions(command: string, flags: GenerationFlags, signal: AbortSignal): GenerateOptions {
  const { temperature, topK, topP, minP, repeatNgram } = flags;
  const drawing = { "--temperature": temperature, "--top-k": topK, "--top-p": topP, "--min-p": minP };
  const wrong = Object.entries(drawing).filter(([, value]) => value !== undefined && value !== 0);
  if (flags.greedy && wrong.length > 0) {
    const names = wrong.map(([name]) => name).join(", ");
    throw new HeedError("USAGE", `${command}: --greedy draws nothing, so ${names} can't be honoured. Leave one out.`);
  }
  const { maxTokens, greedy, repetitionPenalty, seed, stop, prefixLength, logprobs } = flags;
  const { beams, numReturn, lengthPenalty, earlyStopping } = flags;
  const { badWords, suppressTokens, beginSuppressTokens, forcedBos, forcedEos, minLength } = flags;
  return {
    ...{ maxTokens, greedy, temperature, topK, topP, minP, repetitionPenalty, seed, stop, prefixLength, logprobs },
    ...{
      beams,
      numReturn,
      lengthPenalty,
      earlyStopping,
      noRepeatNgram: repeatNgram === true ? undefined : repeatNgram,
    },
    ...{ badWords, suppressTokens, beginSuppressTokens, forcedBos, forcedEos, minLength, signal },
  };
}

function collectIds(text: string, earlier: number[][] = []): number[][] {
  return [...earlier, tokenIds(text)];
}
