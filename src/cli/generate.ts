import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import { shippedModel } from "../sources/shipped_node.ts";
import type { AnyModel, Engine } from "../tasks/engine.ts";
import type { GenerationResult, GenerationStats } from "../tasks/generation.ts";
import type { Generation } from "../tasks/session.ts";
import { EXIT } from "./exit_codes.ts";
import { addGenerationFlags, addModelFlags, type GenerationFlags, generateOptions } from "./generation_flags.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadAnyModel, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { prefixLength, tokenIds } from "./option_types.ts";
import { formatBytes, note, print, printLine } from "./output.ts";
import { formatProfile } from "./profile.ts";

/** Options as commander delivers them. */
interface CommandOptions extends GpuOptions, ModelOptions, GenerationFlags {
  ids?: number[];
  prefix?: number | "prompt";
  chat?: boolean;
  json?: boolean;
  profile?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed generate --max-tokens 100 "To be"       with the small model that comes with Heed
  $ heed generate --model hf:owner/name "Once upon a time"
  $ heed generate --model hf:owner/name@revision --temperature 0.8 --top-p 0.95 --seed 7 "Once upon a time"
  $ heed generate --model ./folder --greedy --max-tokens 20 --json "Once upon a time" | jq .ids.generated
  $ heed generate --model ./folder --ids 1,403,407 --greedy
  $ heed generate --model ./folder --ids 5,9,3 --beams 4 --num-return 4 --max-tokens 20 --json | jq .sequences
  $ heed generate --model ./folder --prefix prompt "A prefix decoder reads its prompt both ways."
  $ heed generate --model ./folder --adapter ./adapter "Once upon a time"
  $ heed generate --model model.gguf "Once upon a time"
  $ heed generate --model ./folder --chat "Who are you?"
  $ echo "Once upon a time" | heed generate --model ./folder -

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed generate`; `done` receives the exit code. */
export function generateCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("generate")
    .description("Continue a prompt with a model; the text streams to stdout, that of a beam search comes at its end")
    .argument("[prompt]", "the text to continue; - reads it from stdin");
  return addGenerationFlags(addModelFlags(command))
    .option("--ids <list>", "a prompt of token ids instead of text; no tokenizer is needed", tokenIds)
    .option("--prefix <n>", "so many first tokens see each other both ways; prompt for all of it", prefixLength)
    .option("--chat", "answer the prompt by the checkpoint's chat template")
    .option("--json", "print one JSON object instead of streaming text")
    .option("--profile", "print GPU time per kernel to stderr")
    .addHelpText("after", EXAMPLES)
    .action(async (prompt: string | undefined, options: CommandOptions) => {
      done(await generate(prompt, options, signal));
    });
}

async function generate(prompt: string | undefined, options: CommandOptions, signal: AbortSignal): Promise<number> {
  if ((prompt === undefined) === (options.ids === undefined)) {
    throw new HeedError("USAGE", 'generate: one prompt is needed, as text ("Once upon a time") or as --ids 1,403,407.');
  }
  if (options.chat && options.ids) {
    throw new HeedError("USAGE", "generate: --chat takes text, which its template becomes a part of; got --ids.");
  }
  if (options.logprobs !== undefined && !options.json) {
    throw new HeedError("USAGE", "generate: --logprobs prints its numbers with --json alone. Add --json.");
  }
  const generation = generateOptions("generate", { ...options, prefixLength: options.prefix }, signal);
  const spec = modelSpec("generate", options.model ?? shippedModel("generate"), options.revision);
  const gpu = await openGpu(options);
  const input = options.ids ?? (prompt === "-" ? await readStdin() : (prompt ?? ""));
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadAnyModel(engine, spec, options, signal);
    return await run(engine, model, await start(model, input, { ...options, generation }), options);
  } finally {
    await engine.dispose();
  }
}

async function start(
  model: AnyModel,
  input: string | number[],
  { chat, profile, generation }: CommandOptions & { readonly generation: ReturnType<typeof generateOptions> },
): Promise<Generation> {
  if (!("generate" in model)) {
    const instead = model.kind === "encoder" ? "answer, classify, label, fill or embed" : "transcribe";
    throw new HeedError(
      "UNSUPPORTED",
      `generate: ${model.family} (${model.kind}) continues no text. Use ${instead} instead.`,
    );
  }
  if (model.kind === "decoder") {
    return chat && typeof input === "string"
      ? model.chat([{ role: "user", content: input }], generation)
      : model.generate(input, generation);
  }
  const { prefixLength: prefix, ...rest } = generation;
  if (chat || profile || prefix !== undefined) {
    const flag = chat ? "--chat" : profile ? "--profile" : "--prefix";
    throw new HeedError("USAGE", `generate: ${model.family} has an encoder, so ${flag} means nothing. Leave it out.`);
  }
  return model.generate(input, rest);
}

/** Streams or collects the text, then prints what belongs after it. Resolves with the exit code. */
async function run(engine: Engine, model: AnyModel, generation: Generation, options: CommandOptions): Promise<number> {
  for await (const piece of generation) {
    if (!options.json && !(options.numReturn && options.numReturn > 1)) print(piece);
  }
  const result = await generation.result;
  const { ids, finish, stats } = result;
  if (options.json) printLine(JSON.stringify({ ...result, model: model.source, adapter: engine.adapter }));
  else {
    printEnd(result, { hasText: model.tokenizer !== undefined, isListed: (options.numReturn ?? 1) > 1 });
    note(`heed: ${describeStats(stats)}${finish === "abort" ? "; interrupted" : ""}`);
  }
  if (options.profile && finish !== "abort" && model.kind === "decoder") {
    const keys = ids.prompt.length + ids.generated.length;
    process.stderr.write(`${formatProfile(await model.profile({ keys }), keys)}\n`);
  }
  return finish === "abort" ? EXIT.INTERRUPTED : EXIT.OK;
}

/** The end of streamed text, or what could not stream: ids without a tokenizer, the results of a search. */
function printEnd(
  { ids, sequences = [] }: GenerationResult,
  { hasText, isListed }: { readonly hasText: boolean; readonly isListed: boolean },
): void {
  if (!isListed) {
    // A model without a tokenizer has ids alone to show.
    printLine(hasText ? "" : ids.generated.join(","));
    return;
  }
  for (const { text, ids: own, score } of sequences) {
    printLine(`${score.toFixed(4)}\t${hasText ? JSON.stringify(text) : own.join(",")}`);
  }
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
