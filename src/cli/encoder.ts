import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import type { EncoderModel } from "../tasks/encoder_model.ts";
import type { EncoderProgress } from "../tasks/encoder_runtime.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadEncoder, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { addCheckpointFlags, addGpuFlags } from "./model_flags.ts";
import { printLine } from "./output.ts";
import { countProgress } from "./progress.ts";

/** Options that the commands of encoders share, as commander delivers them. */
export interface EncoderCliOptions extends GpuOptions, ModelOptions {
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
  const command = addGpuFlags(addCheckpointFlags(new Command(name).description(description)));
  return command
    .option("--json", "print one JSON object")
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

/** The texts that were given; `-` alone reads one a line from stdin. Throws `USAGE` for none. */
export async function textsOf(command: string, texts: readonly string[]): Promise<string[]> {
  if (texts.length === 1 && texts[0] === "-") return (await readStdin()).split(/\r?\n/).filter((line) => line !== "");
  if (texts.length > 0) return [...texts];
  throw new HeedError("USAGE", `${command}: at least one text is needed; - reads one a line from stdin.`);
}
