import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import { TIERS } from "../gpu/tiers.ts";
import type { Engine } from "../tasks/engine.ts";
import type { GenerationStats } from "../tasks/generation.ts";
import type { GenerateOptions } from "../tasks/generation_options.ts";
import type { TextModel } from "../tasks/text_model.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadModel, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { collect, numberIn, tokenIds } from "./option_types.ts";
import { formatBytes, note, print, printLine } from "./output.ts";
import { formatProfile } from "./profile.ts";

/** Options as commander delivers them. */
interface CommandOptions extends GpuOptions, ModelOptions, Omit<GenerateOptions, "signal"> {
  ids?: number[];
  json?: boolean;
  profile?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed generate --model hf:owner/name "Once upon a time"
  $ heed generate --model hf:owner/name@revision --temperature 0.8 --top-p 0.95 --seed 7 "Once upon a time"
  $ heed generate --model ./folder --greedy --max-tokens 20 --json "Once upon a time" | jq .ids.generated
  $ heed generate --model ./folder --ids 1,403,407 --greedy
  $ echo "Once upon a time" | heed generate --model ./folder -

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

const NO_MODEL =
  "generate: --model is needed, as Heed has no default model yet. Name one: a Hub id (--model hf:owner/name), " +
  "a URL, or a folder with config.json, tokenizer.json and model.safetensors (--model ./folder).";

const FRACTION = { above: 0, max: 1 };

/** The command `heed generate`; `done` receives the exit code. */
export function generateCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return new Command("generate")
    .description("Continue a prompt with a model; the text streams to stdout")
    .argument("[prompt]", "the text to continue; - reads it from stdin")
    .option("--model <spec>", "hf:owner/name[@revision], a URL, or a folder")
    .option("--revision <name>", "branch, tag or commit of a Hub model")
    .option("--max-tokens <n>", "stop after this many tokens; 256 unless given", numberIn({ min: 1, integer: true }))
    .option("--greedy", "always take the likeliest token")
    .option(
      "--temperature <t>",
      "divide the logits by this before drawing; 0 is --greedy",
      numberIn({ min: 0, max: 100 }),
    )
    .option("--top-k <k>", "draw from the k likeliest tokens; 0 is all", numberIn({ min: 0, integer: true }))
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
    .option("--ids <list>", "a prompt of token ids instead of text", tokenIds)
    .addOption(new Option("--dtype <dtype>", "keep matrices in this type").choices(["f32", "f16"]))
    .option(
      "--cache-tokens <n>",
      "tokens that the cache of keys and values holds, rounded up to pages of 32",
      numberIn({ min: 1, integer: true }),
    )
    .addOption(new Option("--cache-dtype <dtype>", "keep keys and values in this type").choices(["f32", "f16"]))
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--json", "print one JSON object instead of streaming text")
    .option("--profile", "print GPU time per kernel to stderr")
    .option("--no-tune", "choose kernels by rules, without measuring a few at the first start")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText("after", EXAMPLES)
    .action(async (prompt: string | undefined, options: CommandOptions) => {
      done(await generate(prompt, options, signal));
    });
}

async function generate(prompt: string | undefined, options: CommandOptions, signal: AbortSignal): Promise<number> {
  if (options.model === undefined) throw new HeedError("USAGE", NO_MODEL);
  checkOptions(prompt, options);
  const spec = modelSpec("generate", options.model, options.revision);
  const gpu = await openGpu(options);
  const input = options.ids ?? (prompt === "-" ? await readStdin() : (prompt ?? ""));
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadModel(engine, spec, options, signal);
    return await run(engine, model, input, options, signal);
  } finally {
    await engine.dispose();
  }
}

/** Streams or collects the text, then prints what belongs after it. Resolves with the exit code. */
async function run(
  engine: Engine,
  model: TextModel,
  input: string | number[],
  options: CommandOptions,
  signal: AbortSignal,
): Promise<number> {
  const generation = model.generate(input, generateOptions(options, signal));
  for await (const piece of generation) if (!options.json) print(piece);
  const { text, ids, finish, seed, stats } = await generation.result;
  if (options.json) {
    const { adapter } = engine;
    printLine(JSON.stringify({ text, ids, finish, seed, stats, model: model.source, adapter }));
  } else {
    // A model without a tokenizer has ids alone to show.
    printLine(model.tokenizer ? "" : ids.generated.join(","));
    note(`heed: ${describeStats(stats)}${finish === "abort" ? "; interrupted" : ""}`);
  }
  if (options.profile && finish !== "abort") {
    const keys = ids.prompt.length + ids.generated.length;
    process.stderr.write(`${formatProfile(await model.profile({ keys }), keys)}\n`);
  }
  return finish === "abort" ? EXIT.INTERRUPTED : EXIT.OK;
}

function checkOptions(prompt: string | undefined, options: CommandOptions): void {
  if ((prompt === undefined) === (options.ids === undefined)) {
    throw new HeedError("USAGE", 'generate: one prompt is needed, as text ("Once upon a time") or as --ids 1,403,407.');
  }
  const { temperature, topK, topP, minP } = options;
  const drawing = { "--temperature": temperature, "--top-k": topK, "--top-p": topP, "--min-p": minP };
  const wrong = Object.entries(drawing).filter(([, value]) => value !== undefined && value !== 0);
  if (options.greedy && wrong.length > 0) {
    const names = wrong.map(([name]) => name).join(", ");
    throw new HeedError("USAGE", `generate: --greedy draws nothing, so ${names} can't be honoured. Leave one out.`);
  }
}

function generateOptions(options: CommandOptions, signal: AbortSignal): GenerateOptions {
  const { maxTokens, greedy, temperature, topK, topP, minP, repetitionPenalty, seed, stop } = options;
  return { maxTokens, greedy, temperature, topK, topP, minP, repetitionPenalty, seed, stop, signal };
}

function describeStats(stats: GenerationStats): string {
  const { promptTokens, generatedTokens, timeToFirstTokenMs, tokensPerSecond, peakGpuBytes } = stats;
  return [
    `${promptTokens} + ${generatedTokens} tokens`,
    `first after ${timeToFirstTokenMs.toFixed(0)} ms`,
    `then ${tokensPerSecond.toPrecision(3)} a second`,
    `at most ${formatBytes(peakGpuBytes)} on the GPU`,
  ].join(", ");
}
