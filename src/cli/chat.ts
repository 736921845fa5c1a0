import { createInterface } from "node:readline";
import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import type { Engine } from "../tasks/engine.ts";
import type { GenerationResult } from "../tasks/generation.ts";
import type { ChatOptions, Conversation } from "../tasks/chat.ts";
import type { TextModel } from "../tasks/text_model.ts";
import { EXIT } from "./exit_codes.ts";
import { addGenerationFlags, addModelFlags, type GenerationFlags, generateOptions } from "./generation_flags.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadModel, type ModelOptions, modelSpec, readStdin } from "./model.ts";
import { note, print, printLine } from "./output.ts";

interface CommandOptions extends GpuOptions, ModelOptions, GenerationFlags {
  system?: string;
  json?: boolean;
}

const EXAMPLES = `
Without a message, and with a terminal, the conversation goes on until the input ends (Ctrl-D) or you write /bye.

Examples:
  $ heed chat --model hf:owner/name
  $ heed chat --model ./folder --system "Be brief." "Who are you?"
  $ echo "Who are you?" | heed chat --model ./folder --json | jq -r .text

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed chat`; `done` receives the exit code. */
export function chatCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("chat")
    .description("Talk with a model by its checkpoint's own chat template")
    .argument("[message]", "one message to answer; - reads it from stdin");
  return addGenerationFlags(addModelFlags(command))
    .option("--system <text>", "what the model is told before the conversation")
    .option("--json", "answer one message, and print one JSON object")
    .addHelpText("after", EXAMPLES)
    .action(async (message: string | undefined, options: CommandOptions) => {
      done(await chat(message, options, signal));
    });
}

async function chat(message: string | undefined, options: CommandOptions, signal: AbortSignal): Promise<number> {
  if (options.model === undefined) {
    throw new HeedError("USAGE", "chat: --model is needed: a Hub id (hf:owner/name), a URL, or a folder (./folder).");
  }
  const generate = generateOptions("chat", options, signal);
  const spec = modelSpec("chat", options.model, options.revision);
  const gpu = await openGpu(options);
  const isTalk = message === undefined && process.stdin.isTTY === true && !options.json;
  const text = isTalk ? undefined : message === undefined || message === "-" ? await readStdin() : message;
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadModel(engine, spec, options, signal);
    const system = options.system === undefined ? [] : [{ role: "system", content: options.system }];
    using conversation = model.conversation(system);
    if (text !== undefined) return await once(engine, model, { conversation, text, options, generate });
    return await talk(conversation, generate);
  } finally {
    await engine.dispose();
  }
}

async function once(
  engine: Engine,
  model: TextModel,
  {
    conversation,
    text,
    options,
    generate,
  }: { conversation: Conversation; text: string; options: CommandOptions; generate: ChatOptions },
): Promise<number> {
  const result = await conversation.send(text, { ...generate, ...(options.json ? {} : { onText: print }) });
  if (options.json) {
    const { messages } = conversation;
    printLine(JSON.stringify({ ...result, messages, model: model.source, adapter: engine.adapter }));
  } else printLine();
  return codeOf(result);
}

/** Reads messages line by line until the input ends; an interrupt ends the whole. */
async function talk(conversation: Conversation, generate: ChatOptions): Promise<number> {
  const lines = createInterface({ input: process.stdin, output: process.stderr, prompt: "> " });
  generate.signal?.addEventListener("abort", () => lines.close(), { once: true });
  note("heed: /bye ends the conversation.");
  lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/bye") break;
    if (text !== "") {
      const result = await conversation.send(text, { ...generate, onText: print });
      printLine();
      if (result.finish === "abort") return EXIT.INTERRUPTED;
    }
    lines.prompt();
  }
  lines.close();
  return generate.signal?.aborted ? EXIT.INTERRUPTED : EXIT.OK;
}

function codeOf({ finish }: GenerationResult): number {
  return finish === "abort" ? EXIT.INTERRUPTED : EXIT.OK;
}
