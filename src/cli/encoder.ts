import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import { type Tier, TIERS } from "../gpu/tiers.ts";
import type { EncoderModel } from "../tasks/encoder_model.ts";
import type { EncoderProgress } from "../tasks/encoder_runtime.ts";
import type { Engine } from "../tasks/engine.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { modelSpec, readStdin } from "./model.ts";
import { printLine } from "./output.ts";
import { byteProgress, countProgress } from "./progress.ts";
import type { LoadDType } from "../models/weight_stream.ts";

/** Options that the commands of encoders share, as commander delivers them. */
export interface EncoderCliOptions extends GpuOptions {
  model?: string;
  revision?: string;
  dtype?: LoadDType;
  tier?: Tier;
  json?: boolean;
}

/** What a command works with while its model is loaded. */
export interface EncoderCall {
  readonly model: EncoderModel;
  readonly signal: AbortSignal;
  onProgress(progress: EncoderProgress): void;
  /** Prints one object with the model and the adapter beside `result`. */
  printJson(result: object): void;
}

/** A command with the options that all commands of encoders have; the caller adds arguments and its own options. */
export function encoderCommand(name: string, description: string, examples: string): Command {
  return new Command(name)
    .description(description)
    .option("--model <spec>", "hf:owner/name[@revision], a URL, or a folder")
    .option("--revision <name>", "branch, tag or commit of a Hub model")
    .addOption(new Option("--dtype <dtype>", "keep matrices in this type").choices(["f32", "f16", "q8_0", "q4_0"]))
    .addOption(new Option("--tier <tier>", "use no more than this tier of GPU features").choices(TIERS))
    .option("--json", "print one JSON object")
    .option("--no-tune", "choose kernels by rules, without measuring a few at the first start")
    .option("--no-software-gpu", "do not start again on a software GPU where there is no other")
    .addHelpText(
      "after",
      `\nExamples:\n${examples}\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`,
    );
}

/** Loads the encoder, runs `work` with it, and frees everything. Resolves with the exit code. */
export async function withEncoder(
  command: string,
  options: EncoderCliOptions,
  signal: AbortSignal,
  work: (call: EncoderCall) => Promise<void>,
): Promise<number> {
  if (options.model === undefined) {
    throw new HeedError(
      "USAGE",
      `${command}: --model is needed: a Hub id (hf:owner/name), a URL, or a folder (./folder).`,
    );
  }
  const spec = modelSpec(command, options.model, options.revision);
  const gpu = await openGpu(options);
  const engine = await openEngine(gpu, options);
  const progress = countProgress("computing");
  try {
    const model = await loadEncoder(engine, spec, options, signal);
    await work({
      model,
      signal,
      onProgress: ({ done, total }) => progress.update(done, total),
      printJson(result) {
        progress.stop();
        printLine(JSON.stringify({ ...result, model: model.source, adapter: engine.adapter }));
      },
    });
    return EXIT.OK;
  } finally {
    progress.stop();
    await engine.dispose();
  }
}

async function loadEncoder(
  engine: Engine,
  spec: string,
  { dtype }: EncoderCliOptions,
  signal: AbortSignal,
): Promise<EncoderModel> {
  const download = byteProgress("downloading");
  const upload = byteProgress("loading");
  try {
    return await engine.loadEncoder(spec, {
      dtype,
      signal,
      source: { onProgress: ({ loadedBytes, totalBytes }) => download.update(loadedBytes, totalBytes) },
      onProgress: ({ loadedBytes, totalBytes }) => {
        download.stop();
        upload.update(loadedBytes, totalBytes);
      },
    });
  } finally {
    download.stop();
    upload.stop();
  }
}

/** The texts that were given; `-` alone reads one a line from stdin. Throws `USAGE` for none. */
export async function textsOf(command: string, texts: readonly string[]): Promise<string[]> {
  if (texts.length === 1 && texts[0] === "-") return (await readStdin()).split(/\r?\n/).filter((line) => line !== "");
  if (texts.length > 0) return [...texts];
  throw new HeedError("USAGE", `${command}: at least one text is needed; - reads one a line from stdin.`);
}
