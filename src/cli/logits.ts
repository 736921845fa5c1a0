import { Command } from "commander";
import { HeedError } from "../core/errors.ts";
import type { AnyModel } from "../tasks/engine.ts";
import { EXIT } from "./exit_codes.ts";
import { addModelFlags } from "./generation_flags.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { loadAnyModel, type ModelOptions, modelSpec } from "./model.ts";
import { prefixLength, tokenIds } from "./option_types.ts";
import { print, printLine } from "./output.ts";

interface LogitsOptions extends GpuOptions, ModelOptions {
  ids?: number[];
  decoderIds?: number[];
  typeIds?: number[];
  prefix?: number | "prompt";
  json?: boolean;
}

/** What a head gives: a row for each position, one row for the whole, or where answers start and end. */
type Logits = Readonly<Record<string, readonly Float32Array[] | Float32Array>>;

/** The flag that a kind of model alone has. */
const OWN_FLAGS: Readonly<Record<string, string>> = {
  decoder: "--prefix",
  encoder: "--type-ids",
  "encoder-decoder": "--decoder-ids",
};

const EXAMPLES = `
What the checkpoint's head gives, as its reference implementation does, without the batch's dimension: {"logits": [T][V]} of
language models (of the decoder's T positions in an encoder–decoder) and of heads for masked words and token labels, {"logits":
[labels]} of classification, {"start_logits": [T], "end_logits": [T]} of questions and answers. Ids are taken as they are: no
special token is added.

Examples:
  $ heed logits --model ./folder --ids 5,9,3 --json | jq '.logits[-1] | length'
  $ heed logits --model ./marian --ids 5,9,3,0 --decoder-ids 0,7 --json
  $ heed logits --model ./folder --ids 5,9,3 --prefix 2

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed logits`; `done` receives the exit code. */
export function logitsCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("logits").description("Print what the checkpoint's head gives for token ids");
  return addModelFlags(command)
    .option("--ids <list>", "the token ids; no tokenizer is needed", tokenIds)
    .option("--decoder-ids <list>", "what an encoder–decoder's decoder has read; default its start token", tokenIds)
    .option("--type-ids <list>", "an encoder's segment of each id; default 0", tokenIds)
    .option("--prefix <n>", "so many first tokens see each other both ways; prompt for all", prefixLength)
    .option("--json", "print one JSON object with every number; without it the likeliest of each position")
    .addHelpText("after", EXAMPLES)
    .action(async (options: LogitsOptions) => {
      done(await logits(options, signal));
    });
}

async function logits(options: LogitsOptions, signal: AbortSignal): Promise<number> {
  const { model: named, ids } = options;
  if (named === undefined || ids === undefined) {
    throw new HeedError("USAGE", "logits: --model and --ids are needed, such as --model ./folder --ids 5,9,3.");
  }
  const spec = modelSpec("logits", named, options.revision);
  const gpu = await openGpu(options);
  const engine = await openEngine(gpu, options);
  try {
    const model = await loadAnyModel(engine, spec, options, signal);
    const given = await logitsOf(model, ids, options, signal);
    if (options.json) printJson(given);
    else printTable(given, model);
    return EXIT.OK;
  } finally {
    await engine.dispose();
  }
}

async function logitsOf(
  model: AnyModel,
  ids: readonly number[],
  options: LogitsOptions,
  signal: AbortSignal,
): Promise<Logits> {
  const { decoderIds, typeIds, prefix } = options;
  const flags = { "--decoder-ids": decoderIds, "--type-ids": typeIds, "--prefix": prefix };
  const own: string | undefined = OWN_FLAGS[model.kind];
  const wrong = Object.entries(flags).find(([name, value]) => value !== undefined && name !== own);
  if (wrong) {
    const kind = `${/^[aeiou]/.test(model.kind) ? "an" : "a"} ${model.kind}`;
    throw new HeedError(
      "USAGE",
      `logits: ${model.family} is ${kind}, for which ${wrong[0]} means nothing. Leave it out.`,
    );
  }
  switch (model.kind) {
    case "decoder":
      return { logits: await model.logits(ids, { prefixLength: prefix, signal }) };
    case "encoder":
      return { ...(await model.logits(ids, { typeIds, signal })) };
    case "encoder-decoder":
      return { logits: await model.logits(ids, decoderIds, { signal }) };
    default:
      throw new HeedError("UNSUPPORTED", "logits: a model of speech reads no ids. Use transcribe.");
  }
}

/** Row by row, since all rows as one text may be longer than a text can be. */
function printJson(given: Logits): void {
  print("{");
  Object.entries(given).forEach(([name, value], i) => {
    print(`${i === 0 ? "" : ","}${JSON.stringify(name)}:`);
    if (value instanceof Float32Array) {
      print(numbers(value));
      return;
    }
    print("[");
    for (const [t, row] of value.entries()) print(`${t === 0 ? "" : ","}${numbers(row)}`);
    print("]");
  });
  printLine("}");
}

/** Nine digits tell every f32 from its neighbours. */
function numbers(row: Float32Array): string {
  return `[${Array.from(row, (x) => (Number.isFinite(x) ? Number(x.toPrecision(9)) : "null")).join(",")}]`;
}

function printTable(given: Logits, model: AnyModel): void {
  for (const [name, value] of Object.entries(given)) {
    const rows = value instanceof Float32Array ? [value] : value;
    for (const [t, row] of rows.entries()) {
      const best = [...row].map((logit, id) => ({ id, logit })).sort((a, b) => b.logit - a.logit || a.id - b.id);
      const text = (id: number) =>
        model.tokenizer && rows === value ? ` ${JSON.stringify(model.tokenizer.decode([id]))}` : "";
      const words = best.slice(0, 5).map(({ id, logit }) => `${id}${text(id)} ${logit.toFixed(4)}`);
      printLine([name, ...(rows === value ? [String(t)] : []), words.join(", ")].join("\t"));
    }
  }
}
