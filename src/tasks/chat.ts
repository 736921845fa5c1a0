import { HeedError } from "../core/errors.ts";
import type { Source } from "../core/source.ts";
import type { ChatMessage, ChatTemplate, ChatTemplateOptions } from "../text/chat_template.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { GenerateOptions } from "./generation_options.ts";
import type { GenerationResult } from "./generation.ts";
import type { Session } from "./session.ts";

/** What a chat may be asked: everything that `generate` may, and what its template knows. */
export interface ChatOptions extends GenerateOptions, Pick<ChatTemplateOptions, "tools" | "variables"> {}

/** Makes prompts of conversations: a checkpoint's template, read and made ready at first use. */
export class ChatPrompts {
  readonly #source: Source | undefined;
  readonly #tokenizer: Tokenizer | undefined;
  #template: Promise<ChatTemplate | undefined> | undefined;

  /** `source` holds the template; undefined for a model that was made here. */
  constructor(source: Source | undefined, tokenizer: Tokenizer | undefined) {
    this.#source = source;
    this.#tokenizer = tokenizer;
  }

  /** True if the checkpoint has a template and a tokenizer. */
  async available(): Promise<boolean> {
    return this.#tokenizer !== undefined && (await this.#open()) !== undefined;
  }

  /** Ids of a conversation, ending where the model answers. Throws `UNSUPPORTED` where the checkpoint has no template. */
  async ids(messages: readonly ChatMessage[], { tools, variables }: ChatTemplateOptions = {}): Promise<number[]> {
    checkMessages(messages);
    if (!this.#tokenizer) {
      throw new HeedError(
        "BAD_FILE",
        "chat: the checkpoint has no tokenizer. Add its tokenizer.json, or give ids to generate.",
      );
    }
    const template = await this.#open();
    if (!template) {
      throw new HeedError(
        "UNSUPPORTED",
        "chat: the checkpoint has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja). Take a model that was tuned for chats, or generate.",
      );
    }
    const text = template.render(messages, { tools, variables });
    return this.#tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: true });
  }

  #open(): Promise<ChatTemplate | undefined> {
    const source = this.#source;
    if (!source) return Promise.resolve(undefined);
    this.#template ??= import("../text/chat_template.ts").then(({ openChatTemplate }) => openChatTemplate(source));
    return this.#template;
  }
}

/**
 * A conversation that goes on: what its turns have in common stays computed on the GPU. Dispose it when done.
 *
 * @example
 * using chat = model.conversation();
 * const { text } = await chat.send("Who are you?");
 */
export class Conversation {
  readonly #session: Session;
  readonly #prompts: ChatPrompts;
  readonly #messages: ChatMessage[];

  /** Use {@link TextModel.conversation}. */
  constructor(session: Session, prompts: ChatPrompts, messages: readonly ChatMessage[] = []) {
    this.#session = session;
    this.#prompts = prompts;
    this.#messages = [...messages];
  }

  /** All turns so far. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** Says something and waits for the answer, which becomes part of the conversation; `onText` sees it piece by piece. */
  async send(
    content: string,
    options: ChatOptions & { onText?: (piece: string) => void } = {},
  ): Promise<GenerationResult> {
    const { tools, variables, onText, ...generate } = options;
    const messages = [...this.#messages, { role: "user", content }];
    const ids = await this.#prompts.ids(messages, { tools, variables });
    const known = this.#session.ids;
    let common = 0;
    while (common < known.length && common < ids.length && known[common] === ids[common]) common++;
    if (common < known.length) this.#session.rewind(common);
    const generation = this.#session.generate(ids.slice(common), generate);
    if (onText) for await (const piece of generation) onText(piece);
    const result = await generation.result;
    this.#messages.push({ role: "user", content }, { role: "assistant", content: result.text });
    return result;
  }

  /** Gives the GPU memory back. Idempotent. */
  dispose(): void {
    this.#session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkMessages(messages: readonly ChatMessage[]): void {
  const fits = (m: unknown) =>
    typeof m === "object" && m !== null && typeof (m as ChatMessage).role === "string" && "content" in m;
  if (Array.isArray(messages) && messages.length > 0 && messages.every(fits)) return;
  throw new HeedError(
    "USAGE",
    'chat: messages are a list of {role, content}, such as [{ role: "user", content: "Hello" }].',
  );
}
