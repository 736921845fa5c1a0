import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import type { Tokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./generation_options.ts";

/** What a task makes of a text: tokens around it, the first token of the result, and the settings to decode with. */
export interface TextTask {
  /** Before the text, as text (`summarize: `). */
  readonly prefix: string;
  /** Before the text's tokens, such as `>>fra<<`. */
  readonly firstIds: readonly number[];
  /** The token of the text's language, where the tokenizer puts one: in place of its own, else before the text. */
  readonly from?: number | undefined;
  /** The token of the language to write in, after the start token. */
  readonly forcedBos: number | undefined;
  /** The start token, where that is the language to write in. */
  readonly decoderStart?: number | undefined;
  readonly defaults: GenerationDefaults;
}

/** The languages of a translation, by the names that the checkpoint has for them. */
export interface Languages {
  /** The language of the text; models of one language, and those that find out, need none. */
  readonly from?: string;
  /** The language to translate to; models of one language need none. */
  readonly to?: string;
}

/** What a checkpoint's files say of its tasks. */
export interface TaskFiles {
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig?: Readonly<Record<string, unknown>> | undefined;
}

/** How a text is decoded that no task gives settings for. Older checkpoints keep them in config.json. */
export function plainTask(files: TaskFiles): TextTask {
  return { prefix: "", firstIds: [], forcedBos: undefined, defaults: defaultsOf(files) };
}

/** How a text is summarized: with the prefix and settings that the checkpoint states for it, if any. */
export function summaryTask(files: TaskFiles): TextTask {
  return statedTask(files, "summarization") ?? plainTask(files);
}

/** How a text is translated. Throws `UNSUPPORTED` for a language that the checkpoint has not, naming some that it has. */
export function translationTask(
  files: TaskFiles,
  tokenizers: Tokenizers | undefined,
  { from, to }: Languages,
): TextTask {
  const plain = plainTask(files);
  if (from === undefined && to === undefined) return onlyTranslation(files) ?? plain;
  if (from !== undefined && to !== undefined) {
    const stated = statedTask(files, `translation_${from}_to_${to}`);
    if (stated) return stated;
  }
  const idOf = (token: string) => tokenizers?.source.tokenToId(token);
  const mark = to === undefined ? undefined : idOf(`>>${to}<<`);
  if (mark !== undefined && from === undefined) return { ...plain, firstIds: [mark] };
  const codes = { from: from === undefined ? undefined : idOf(from), to: to === undefined ? undefined : idOf(to) };
  for (const name of ["from", "to"] as const) {
    const given = { from, to }[name];
    if (given !== undefined && codes[name] === undefined) throw unknownLanguage(files, name, given);
  }
  // mBART's first models begin with the language that they write, those of 50 languages write it after the start token.
  const start = startOf(files);
  const isLanguage = start !== undefined && isLanguageCode(tokenizers?.source.idToToken(start));
  return {
    ...{ ...plain, from: codes.from },
    ...(isLanguage ? { decoderStart: codes.to } : { forcedBos: codes.to }),
  };
}

/** The ids of a text with the token of its language: in place of the one that the tokenizer puts first or last, else first. */
export function withLanguage(ids: readonly number[], from: number, tokenizer: Tokenizer): number[] {
  const isCode = (at: number) => isLanguageCode(tokenizer.idToToken(ids.at(at) ?? -1));
  const place = isCode(0) ? 0 : isCode(-1) ? ids.length - 1 : undefined;
  return place === undefined ? [from, ...ids] : ids.map((id, i) => (i === place ? from : id));
}

/** Codes such as `en_XX` and `fra_Latn`. */
function isLanguageCode(token: string | undefined): boolean {
  return token !== undefined && /^[a-z]{2,3}_[A-Z][A-Za-z]{1,3}$/.test(token);
}

function startOf({ config, generationConfig }: TaskFiles): number | undefined {
  const start = generationConfig?.["decoder_start_token_id"] ?? config["decoder_start_token_id"];
  return typeof start === "number" ? start : undefined;
}

function defaultsOf({ config, generationConfig }: TaskFiles, stated: Readonly<Record<string, unknown>> = {}) {
  return readGenerationDefaults(config, { ...(generationConfig ?? config), ...stated });
}

function taskParams({ config }: TaskFiles): Readonly<Record<string, unknown>> {
  const params = config["task_specific_params"];
  return isObject(params) ? params : {};
}

/** The task of that name in `task_specific_params`, T5's and BART's way to say how they were trained. */
function statedTask(files: TaskFiles, name: string): TextTask | undefined {
  const params = taskParams(files);
  const stated = Object.hasOwn(params, name) ? params[name] : undefined;
  if (!isObject(stated)) return undefined;
  const { prefix, ...settings } = stated;
  return {
    ...{ prefix: typeof prefix === "string" ? prefix : "", firstIds: [], forcedBos: undefined },
    defaults: defaultsOf(files, settings),
  };
}

/** The translation that a checkpoint states, if it states one alone. */
function onlyTranslation(files: TaskFiles): TextTask | undefined {
  const names = Object.keys(taskParams(files)).filter((n) => n.startsWith("translation"));
  if (names.length > 1) {
    throw new HeedError(
      "USAGE",
      `translate: this model translates in several ways (${names.join(", ")}). Name the languages: from and to.`,
    );
  }
  return names[0] === undefined ? undefined : statedTask(files, names[0]);
}

function unknownLanguage(files: TaskFiles, name: string, given: string): HeedError {
  const stated = Object.keys(taskParams(files)).filter((n) => n.startsWith("translation_"));
  const known = stated.length > 0 ? ` It states ${stated.join(", ")}.` : "";
  return new HeedError(
    "UNSUPPORTED",
    `translate: the model has no language "${given}" (${name}).${known} Leave it out for a model of one pair, or use the code of its tokenizer, such as fra or fr_XX.`,
  );
}
