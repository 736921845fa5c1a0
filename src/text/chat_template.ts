import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { HeedError, isHeedError } from "../core/errors.ts";
import { isObject, type JsonObject, readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";

/** One turn of a conversation, as templates know it; fields beyond these two are handed to the template as they are. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, or what else the template knows. */
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

/** What a template is rendered with besides the messages. */
export interface ChatTemplateOptions {
  /** Ends with what makes the model answer. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Descriptions of functions, for templates that know them. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[];
  /** More names that the template may read, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A checkpoint's chat template. */
export interface ChatTemplate {
  /** The text that the model continues. Throws `BAD_FILE` for a template that fails or does not end, and what the template raises as `USAGE`. */
  render(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/** Nodes that a template may evaluate, and how long it may take: a real one takes a thousand and a few milliseconds. */
const MOST_STEPS = 1_000_000;
const MOST_MS = 1000;
/** Characters of a text, elements of a list, and numbers, that a template may make. */
const MOST_CHARACTERS = 4 << 20;
const MOST_ELEMENTS = 4096;
const MOST_NUMBER = 10_000_000;

const MAX_TEMPLATE_BYTES = 1 << 20;
const TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * Finds the chat template of a checkpoint: `chat_template.jinja`, or `chat_template` in tokenizer_config.json (one, or a list of
 * named ones, of which the default is taken, `tool_use` where tools are given) or in chat_template.json. Undefined where there
 * is none. Throws `BAD_FILE`.
 */
export async function openChatTemplate(source: Source, options: ReadOptions = {}): Promise<ChatTemplate | undefined> {
  const config = (await readJsonObject(source, "tokenizer_config.json", options)) ?? {};
  const file = await source.readText("chat_template.jinja", { maxBytes: MAX_TEMPLATE_BYTES, ...options });
  const written =
    file ?? config["chat_template"] ?? (await readJsonObject(source, "chat_template.json", options))?.["chat_template"];
  return written === undefined || written === null ? undefined : createChatTemplate(written, specialTokens(config));
}

/** A template from its text, or from a list of `{name, template}`; `tokens` are the names that it reads, such as `bos_token`. */
export function createChatTemplate(written: unknown, tokens: Readonly<Record<string, string>> = {}): ChatTemplate {
  const named = readTemplates(written);
  const parsed = new Map<string, ReturnType<typeof parse>>();
  return {
    render(messages, { addGenerationPrompt = true, tools, variables = {} } = {}) {
      const name = tools && named.has("tool_use") ? "tool_use" : "default";
      const text = named.get(name) ?? ([...named.values()][0] as string);
      return guarded(() => {
        const program = parsed.get(name) ?? parse(tokenize(text, { lstrip_blocks: true, trim_blocks: true }));
        parsed.set(name, program);
        const names = { ...tokens, messages, add_generation_prompt: addGenerationPrompt, tools: tools ?? null };
        return run(program, { ...names, ...variables });
      });
    },
  };
}

function readTemplates(written: unknown): ReadonlyMap<string, string> {
  if (typeof written === "string") return new Map([["default", written]]);
  const entries = (Array.isArray(written) ? written : []).flatMap((entry: unknown): [string, string][] =>
    isObject(entry) && typeof entry["name"] === "string" && typeof entry["template"] === "string"
      ? [[entry["name"], entry["template"]]]
      : [],
  );
  if (entries.length > 0) return new Map(entries);
  throw new HeedError(
    "BAD_FILE",
    `chat: chat_template must be text or a list of named templates; got ${typeof written}. Check tokenizer_config.json.`,
  );
}

function specialTokens(config: JsonObject): Record<string, string> {
  const texts = TOKENS.map((name): [string, unknown] => {
    const given = config[name];
    return [name, isObject(given) ? given["content"] : given];
  });
  return Object.fromEntries(texts.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

/** What the template itself raises, to tell its user what is wrong with the messages. */
class Raised extends Error {}

class TooMuch extends Error {}

/** An interpreter that gives up: a template is a program from a stranger's file. */
class LimitedInterpreter extends Interpreter {
  #steps = 0;
  readonly #until = performance.now() + MOST_MS;

  override evaluate(
    ...[statement, environment]: Parameters<Interpreter["evaluate"]>
  ): ReturnType<Interpreter["evaluate"]> {
    this.#steps++;
    if (this.#steps > MOST_STEPS || (this.#steps % 64 === 0 && performance.now() > this.#until)) {
      throw new TooMuch(`it must end within ${MOST_STEPS} steps and ${MOST_MS} ms`);
    }
    const value = super.evaluate(statement, environment);
    const inner: unknown = value.value;
    if (typeof inner === "string" && inner.length > MOST_CHARACTERS) throw new TooMuch("its text grows without end");
    if (Array.isArray(inner) && inner.length > MOST_ELEMENTS) throw new TooMuch("its lists grow without end");
    if (typeof inner === "number" && Math.abs(inner) > MOST_NUMBER) throw new TooMuch(`it counts past ${MOST_NUMBER}`);
    return value;
  }
}

function run(program: ReturnType<typeof parse>, names: Readonly<Record<string, unknown>>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ true: true, True: true, false: false, False: false })) {
    environment.set(name, value);
  }
  environment.set("none", null);
  environment.set("None", null);
  environment.set("range", limitedRange);
  environment.set("raise_exception", (message: unknown) => {
    throw new Raised(String(message));
  });
  environment.set("strftime_now", (format: string) => formatDate(new Date(), format));
  for (const [name, value] of Object.entries(names)) environment.set(name, structuredClone(value));
  return String(new LimitedInterpreter(environment).run(program).value);
}

function limitedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= MOST_ELEMENTS)) throw new TooMuch("its lists grow without end");
  return Array.from({ length: count }, (_, i) => from + i * step);
}

/** The parts of strftime that templates use. */
function formatDate(date: Date, format: string): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const month = (style: "long" | "short") => date.toLocaleString("en-US", { month: style });
  const day = (style: "long" | "short") => date.toLocaleString("en-US", { weekday: style });
  const parts: Record<string, string> = {
    "%d": two(date.getDate()),
    "%m": two(date.getMonth() + 1),
    "%Y": String(date.getFullYear()),
    "%y": two(date.getFullYear() % 100),
    "%H": two(date.getHours()),
    "%M": two(date.getMinutes()),
    "%S": two(date.getSeconds()),
    "%B": month("long"),
    "%b": month("short"),
    "%A": day("long"),
    "%a": day("short"),
    "%%": "%",
  };
  return String(format).replace(/%[A-Za-z%]/g, (code) => parts[code] ?? code);
}

function guarded(render: () => string): string {
  try {
    return render();
  } catch (cause) {
    if (isHeedError(cause)) throw cause;
    if (cause instanceof Raised) {
      throw new HeedError("USAGE", `chat: the model's template refuses these messages: ${cause.message}.`, { cause });
    }
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new HeedError(
      "BAD_FILE",
      `chat: the checkpoint's chat template can't be rendered: ${message.slice(0, 300)}.`,
      {
        cause,
      },
    );
  }
}
