import type { Command } from "commander";
import { type EncoderCliOptions, encoderCommand, textsOf, withEncoder } from "./encoder.ts";
import { note, printLine } from "./output.ts";

interface EmbedCliOptions extends EncoderCliOptions {
  prompt?: string;
}

const EMBED_EXAMPLES = `  $ heed embed --model ./folder --json "A cat sits outside." | jq .embedding
  $ heed embed --model ./folder - < sentences.txt > vectors.jsonl`;

const SIMILARITY_EXAMPLES = `  $ heed similarity --model ./folder "A cat sits outside." "A kitten is in the garden." "Stocks fell."
  $ heed similarity --model ./folder --json "A cat sits outside." - < sentences.txt`;

/** The command `heed embed`; `done` receives the exit code. */
export function embedCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return encoderCommand("embed", "Make a vector of each text", EMBED_EXAMPLES)
    .argument("[texts...]", "texts; - reads one a line from stdin")
    .option("--prompt <name>", "put the checkpoint's prompt of this name before each text")
    .action(async (texts: string[], options: EmbedCliOptions) => done(await embed(texts, options, signal)));
}

async function embed(given: string[], options: EmbedCliOptions, signal: AbortSignal): Promise<number> {
  const texts = await textsOf("embed", given);
  return withEncoder("embed", options, signal, async ({ model, onProgress, printJson }) => {
    const results = await model.embed(texts, { prompt: options.prompt, signal, onProgress });
    const rows = results.map(({ vector, tokens, truncated }) => ({ embedding: [...vector], tokens, truncated }));
    if (options.json) {
      const embeddings = rows.map(({ embedding }) => embedding);
      printJson(rows.length === 1 ? { ...rows[0], embeddings } : { embeddings, results: rows });
      return;
    }
    for (const { embedding } of rows) printLine(JSON.stringify(embedding));
    if (rows.some(({ truncated }) => truncated)) note("heed: some text was longer than the model reads, and was cut");
  });
}

/** The command `heed similarity`; `done` receives the exit code. */
export function similarityCommand(signal: AbortSignal, done: (code: number) => void): Command {
  return encoderCommand("similarity", "Say how like a text is to others, from -1 to 1", SIMILARITY_EXAMPLES)
    .argument("<text>", "the text that the others are compared with")
    .argument("[others...]", "texts; - reads one a line from stdin")
    .option("--prompt <name>", "put the checkpoint's prompt of this name before each text")
    .action(async (text: string, others: string[], options: EmbedCliOptions) =>
      done(await similarity(text, others, options, signal)),
    );
}

async function similarity(
  text: string,
  given: string[],
  options: EmbedCliOptions,
  signal: AbortSignal,
): Promise<number> {
  const others = await textsOf("similarity", given);
  return withEncoder("similarity", options, signal, async ({ model, onProgress, printJson }) => {
    const scores = await model.similarity(text, others, { prompt: options.prompt, signal, onProgress });
    if (options.json) {
      printJson({ text, similarities: others.map((other, i) => ({ text: other, score: scores[i] })) });
      return;
    }
    for (const score of scores) printLine(score.toFixed(4));
  });
}
