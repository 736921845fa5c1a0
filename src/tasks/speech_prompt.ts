import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** What speech is turned into. */
export interface SpeechPromptOptions {
  /** The language that is spoken, as a code such as `en`; found out by models that know several, unless given. */
  readonly language?: string | undefined;
  /** Write what is said (default), or its English translation, with models that can. */
  readonly task?: "transcribe" | "translate" | undefined;
  /** Places of the text in the sound, with models that write them. */
  readonly timestamps?: boolean | undefined;
}

/** What the decoder reads before it writes. */
export interface SpeechPrompt {
  readonly ids: readonly number[];
  /** Where the language's token stands, and the tokens of all languages, if it has to be found out. */
  readonly language?: { readonly at: number; readonly ids: readonly number[] };
  /** Seconds of a timestamp token after the first of them. */
  readonly timestamps?: { readonly firstId: number; readonly seconds: number };
}

/** What a checkpoint says of its prompts. */
export interface SpeechFiles {
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig?: Readonly<Record<string, unknown>> | undefined;
  readonly decoderStart: number;
  readonly tokenizer: Tokenizer | undefined;
}

/** Seconds between two of Whisper's timestamps (arXiv 2212.04356 §2.3). */
const TIMESTAMP_SECONDS = 0.02;

/**
 * The start token, and for Whisper the tokens of language and task and the one for no timestamps. Throws `UNSUPPORTED` for
 * what the model has no token for.
 */
export function speechPrompt(files: SpeechFiles, options: SpeechPromptOptions): SpeechPrompt {
  const { language, task, timestamps = false } = options;
  const settings = files.generationConfig ?? {};
  const start = numberOf(settings["decoder_start_token_id"]) ?? files.decoderStart;
  const idOf = (token: string) => files.tokenizer?.tokenToId(token);
  const noTimestamps = numberOf(settings["no_timestamps_token_id"]) ?? idOf("<|notimestamps|>");
  const languages = isObject(settings["lang_to_id"]) ? numbersOf(settings["lang_to_id"]) : {};
  const tasks = isObject(settings["task_to_id"]) ? numbersOf(settings["task_to_id"]) : {};
  if (noTimestamps === undefined) {
    refuse("a language", language);
    refuse("a task", task === "transcribe" ? undefined : task);
    refuse("timestamps", timestamps || undefined);
    return { ids: [start] };
  }
  const ids = [start];
  let unknown: SpeechPrompt["language"];
  const knowsSeveral = settings["is_multilingual"] !== false && Object.keys(languages).length > 0;
  if (knowsSeveral || (language !== undefined && idOf(`<|${language}|>`) !== undefined)) {
    const chosen = language === undefined ? undefined : (languages[`<|${language}|>`] ?? idOf(`<|${language}|>`));
    if (language !== undefined && chosen === undefined) throw unknownLanguage(language, languages);
    if (chosen === undefined) unknown = { at: ids.length, ids: Object.values(languages) };
    ids.push(chosen ?? start);
    const taskId = tasks[task ?? "transcribe"] ?? idOf(`<|${task ?? "transcribe"}|>`);
    if (taskId === undefined) refuse("a task", task);
    else ids.push(taskId);
  } else {
    refuse("a language", language === "en" ? undefined : language);
    refuse("a task", task === "transcribe" ? undefined : task);
  }
  if (!timestamps) ids.push(noTimestamps);
  return {
    ids,
    ...(unknown ? { language: unknown } : {}),
    ...(timestamps ? { timestamps: { firstId: noTimestamps + 1, seconds: TIMESTAMP_SECONDS } } : {}),
  };
}

function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function numbersOf(value: Readonly<Record<string, unknown>>): Record<string, number> {
  return Object.fromEntries(Object.entries(value).filter((e): e is [string, number] => typeof e[1] === "number"));
}

function refuse(what: string, given: unknown): void {
  if (given === undefined) return;
  throw new HeedError(
    "UNSUPPORTED",
    `transcribe: this model takes no ${what.replace(/^an? /, "")}; got ${String(given)}. Leave it out, or take a model that does, such as Whisper.`,
  );
}

function unknownLanguage(language: string, languages: Readonly<Record<string, number>>): HeedError {
  const known = Object.keys(languages).map((token) => token.replace(/[<|>]/g, ""));
  return new HeedError(
    "UNSUPPORTED",
    `transcribe: the model has no language "${language}"; it has ${known.slice(0, 20).join(", ")}${known.length > 20 ? ", …" : ""}.`,
  );
}
