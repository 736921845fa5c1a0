import { Command, CommanderError } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { answerCommand } from "./answer.ts";
import { classifyCommand } from "./classify.ts";
import { chatCommand } from "./chat.ts";
import { conformanceCommand } from "./conformance.ts";
import { corpusCommand } from "./corpus.ts";
import { doctorCommand } from "./doctor.ts";
import { evaluateCommand } from "./evaluate.ts";
import { embedCommand, similarityCommand } from "./embed.ts";
import { EXIT, exitCode } from "./exit_codes.ts";
import { fillCommand } from "./fill.ts";
import { finetuneCommand } from "./finetune.ts";
import { generateCommand } from "./generate.ts";
import { labelCommand } from "./label.ts";
import { Replaced } from "./gpu.ts";
import { inspectCommand } from "./inspect.ts";
import { logitsCommand } from "./logits.ts";
import { note, printError } from "./output.ts";
import { summarizeCommand } from "./summarize.ts";
import { tokenizerCommand } from "./tokenizer.ts";
import { trainCommand } from "./train.ts";
import { transcribeCommand } from "./transcribe.ts";
import { translateCommand } from "./translate.ts";

const EXAMPLES = `
Examples:
  $ heed generate --max-tokens 100 "To be, or not"      with the small model that comes with Heed
  $ heed translate "我是一名工程师"                     likewise, from Chinese to English
  $ heed inspect --html attention.html "To be, or not"
  $ heed generate --model hf:owner/name "Once upon a time"
  $ heed doctor

heed <command> --help shows a command's options and examples.`;

/**
 * Runs the command line and resolves with the exit code: 0, 1 failed, 2 wrong usage, 3 no GPU, 130
 * interrupted. Results go to stdout, everything else to stderr.
 */
export async function main(argv: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const stop = listenForInterrupt(interrupt, { patient: PATIENT_COMMANDS.has(argv[0] ?? "") });
  let code: number = EXIT.OK;
  const program = buildProgram(interrupt.signal, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof Replaced) return error.exitCode;
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.OK : EXIT.USAGE;
    if (!interrupt.signal.aborted || exitCode(error) !== EXIT.INTERRUPTED) printError(error);
    return exitCode(error);
  } finally {
    stop();
  }
}

function buildProgram(signal: AbortSignal, done: (code: number) => void): Command {
  const program = new Command("heed")
    .description("Run, look into and train transformers on WebGPU")
    .version(packageJson.version)
    .addHelpText("after", EXAMPLES)
    .addCommand(generateCommand(signal, done))
    .addCommand(answerCommand(signal, done))
    .addCommand(classifyCommand(signal, done))
    .addCommand(labelCommand(signal, done))
    .addCommand(fillCommand(signal, done))
    .addCommand(embedCommand(signal, done))
    .addCommand(similarityCommand(signal, done))
    .addCommand(translateCommand(signal, done))
    .addCommand(summarizeCommand(signal, done))
    .addCommand(chatCommand(signal, done))
    .addCommand(transcribeCommand(signal, done))
    .addCommand(inspectCommand(signal, done))
    .addCommand(logitsCommand(signal, done))
    .addCommand(doctorCommand(signal, done))
    .addCommand(conformanceCommand(signal, done))
    .addCommand(trainCommand(signal, done))
    .addCommand(finetuneCommand(signal, done))
    .addCommand(evaluateCommand(signal, done))
    .addCommand(tokenizerCommand(signal, done))
    .addCommand(corpusCommand(done));
  for (const command of [program, ...program.commands]) {
    command.exitOverride();
    command.showHelpAfterError("(--help shows the options)");
  }
  return program;
}

/** How long interrupted work may take to stop by itself; a shader that is being compiled can't be stopped. */
const GRACE_MS = 5000;

/** Commands that first finish an update and write a checkpoint, however long that takes. */
const PATIENT_COMMANDS: ReadonlySet<string> = new Set(["train", "finetune"]);

/** Ctrl-C asks the work to stop. A second one, a second or more later, ends the process, and so does waiting. */
function listenForInterrupt(interrupt: AbortController, { patient }: { readonly patient: boolean }): () => void {
  let first = 0;
  const onSignal = () => {
    // One Ctrl-C can arrive twice: from the terminal, and from the process that started this one.
    if (first > 0 && performance.now() - first > 1000) process.exit(EXIT.INTERRUPTED);
    if (first > 0) return;
    first = performance.now();
    if (patient) note("heed: stopping after this update, with a checkpoint; interrupt again to stop at once");
    else setTimeout(() => process.exit(EXIT.INTERRUPTED), GRACE_MS).unref();
    interrupt.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return () => {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  };
}
