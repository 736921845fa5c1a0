import { Command, Option } from "commander";
import { HeedError } from "../core/errors.ts";
import type { Engine } from "../tasks/engine.ts";
import type { SpeechModel } from "../tasks/speech_model.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { modelSpec } from "./model.ts";
import { addGpuFlags } from "./model_flags.ts";
import { numberIn } from "./option_types.ts";
import { note, printLine } from "./output.ts";
import { byteProgress, countProgress } from "./progress.ts";
import { readSound } from "./sound.ts";

interface TranscribeCliOptions extends GpuOptions {
  model?: string;
  revision?: string;
  dtype?: "f32" | "f16";
  language?: string;
  task?: "transcribe" | "translate";
  timestamps?: boolean;
  beams?: number;
  maxTokens?: number;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed transcribe --model ./moonshine-tiny speech.wav
  $ heed transcribe --model hf:owner/whisper --language en --timestamps --json speech.wav | jq .segments
  $ ffmpeg -i talk.mp3 -f wav - | heed transcribe --model ./moonshine-tiny -

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed transcribe`; `done` receives the exit code. */
export function transcribeCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const count = numberIn({ min: 1, integer: true });
  const command = new Command("transcribe")
    .description("Write down what is said in a WAV file")
    .argument("<file>", "a WAV file of 8 to 32 bits or floats, any rate, any channels; - reads it from stdin")
    .option("--model <spec>", "hf:owner/name[@revision], a URL, or a folder")
    .option("--revision <name>", "branch, tag or commit of a Hub model")
    .option("--language <code>", "the language that is spoken, such as en; found out unless given")
    .addOption(
      new Option("--task <task>", "write what is said, or its English translation").choices([
        "transcribe",
        "translate",
      ]),
    )
    .option("--timestamps", "say where in the sound each piece of text is, with models that can")
    .option("--beams <n>", "search with so many beams", count)
    .option("--max-tokens <n>", "tokens that half a minute gives at most", count)
    .addOption(new Option("--dtype <dtype>", "keep matrices in this type").choices(["f32", "f16"]))
    .option("--json", "print one JSON object");
  return addGpuFlags(command)
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, options: TranscribeCliOptions) => done(await transcribe(file, options, signal)));
}

async function transcribe(file: string, options: TranscribeCliOptions, signal: AbortSignal): Promise<number> {
  if (options.model === undefined) {
    throw new HeedError(
      "USAGE",
      "transcribe: --model is needed: a Hub id (hf:owner/name), a URL, or a folder (./folder).",
    );
  }
  const spec = modelSpec("transcribe", options.model, options.revision);
  const gpu = await openGpu(options);
  const bytes = await readSound("transcribe", file);
  const engine = await openEngine(gpu, options);
  const progress = countProgress("transcribing");
  try {
    const model = await load(engine, spec, options, signal);
    const { language, task, timestamps, beams, maxTokens } = options;
    const started = performance.now();
    const result = await model.transcribe(bytes, {
      ...{ language, task, timestamps, beams, maxTokens, signal },
      onProgress: ({ done, total }) => progress.update(done, total),
    });
    progress.stop();
    const elapsed = (performance.now() - started) / 1000;
    if (options.json) {
      const stats = { seconds: result.seconds, elapsedSeconds: elapsed };
      printLine(
        JSON.stringify({
          ...result,
          language: result.language ?? null,
          stats,
          model: model.source,
          adapter: engine.adapter,
        }),
      );
      return EXIT.OK;
    }
    if (timestamps) for (const s of result.segments) printLine(`${s.start.toFixed(2)}\t${s.end.toFixed(2)}\t${s.text}`);
    else printLine(result.text);
    note(`heed: ${result.seconds.toFixed(1)} s of sound in ${elapsed.toFixed(1)} s`);
    return EXIT.OK;
  } finally {
    progress.stop();
    await engine.dispose();
  }
}

async function load(
  engine: Engine,
  spec: string,
  { dtype }: TranscribeCliOptions,
  signal: AbortSignal,
): Promise<SpeechModel> {
  const download = byteProgress("downloading");
  const upload = byteProgress("loading");
  try {
    return await engine.loadSpeech(spec, {
      ...{ dtype, signal },
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
