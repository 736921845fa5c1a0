import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { describeFaults } from "../core/faults.ts";
import type { AttentionRequest } from "../inspect/attention_request.ts";
import type { AttentionStep } from "./attention_watch.ts";
import { type BeamOptions, MAX_BEAMS } from "./beam_search.ts";
import type { GenerationDefaults } from "./hub_generation.ts";
import type { TokenRules } from "./token_rules.ts";

export { readGenerationDefaults } from "./hub_generation.ts";
export type { GenerationDefaults };

/** What `generate` may be asked; an unknown name or a value out of range throws `USAGE`. */
export interface GenerateOptions {
  /** New tokens at most; default 256, or what is left of the context. */
  readonly maxTokens?: number;
  /** Always the likeliest token. The default where the checkpoint's generation_config.json does not ask to sample. */
  readonly greedy?: boolean;
  /** Logits are divided by it; 0 means greedy. */
  readonly temperature?: number;
  /** Sample among the k likeliest tokens; 0 for all. */
  readonly topK?: number;
  /** Sample among the likeliest tokens that together have this probability. */
  readonly topP?: number;
  /** Sample among tokens at least this fraction as likely as the likeliest. */
  readonly minP?: number;
  /** Logits of tokens seen so far are divided by it where positive, multiplied where negative; 1 for none. */
  readonly repetitionPenalty?: number;
  /** Whole number below 2^53; the same seed on the same adapter draws the same tokens. Default: a random one, reported in the result. */
  readonly seed?: number;
  /** Generation ends before any of these strings. */
  readonly stop?: string | readonly string[];
  /** Ends the generation: no token is taken from the GPU after it fires. */
  readonly signal?: AbortSignal;
  /** Beam search with so many hypotheses, 1 for none; the text comes at its end. Draws nothing: not with temperature and the like. */
  readonly beams?: number;
  /** Results of a beam search, at most `beams`; default 1. */
  readonly numReturn?: number;
  /** Scores are divided by the new tokens' number to this power: above 0 favours long results. Default 1. */
  readonly lengthPenalty?: number;
  /**
   * When a beam search ends: true, with `beams` results; false (default), when no open hypothesis is better than they are;
   * "never", when none could become better.
   */
  readonly earlyStopping?: boolean | "never";
  /** No run of so many tokens comes twice, the prompt counted; 0 for none. */
  readonly noRepeatNgram?: number;
  /** Runs of token ids that never come. */
  readonly badWords?: readonly (readonly number[])[];
  /** Tokens that never come. */
  readonly suppressTokens?: readonly number[];
  /** Tokens that do not come first. */
  readonly beginSuppressTokens?: readonly number[];
  /** The token that follows a prompt of one token. */
  readonly forcedBos?: number;
  /** One of these comes last if `maxTokens` is reached. */
  readonly forcedEos?: number | readonly number[];
  /** New tokens before which no end token comes. */
  readonly minLength?: number;
  /** Log-probabilities of the generated tokens, each with the `logprobs` likeliest at its place (0 to 64). Not with beams, whose results have their own. */
  readonly logprobs?: number;
  /**
   * So many first tokens of the prompt see each other both ways (a prefix decoder), `prompt` for all of it; default 0. The
   * session must be empty before.
   */
  readonly prefixLength?: number | "prompt";
  /** Captures how each step's token attends, weights or summaries. Such a generation reads back more and waits at every token. */
  readonly attention?: GenerationAttention;
}

/** Attention that a generation captures. */
export interface GenerationAttention extends AttentionRequest {
  /** Takes each step as it comes; without it they are collected in the result. What it throws ends the generation. */
  readonly onStep?: (step: AttentionStep) => void;
}

/** Options with every default filled in. */
export interface ResolvedGeneration {
  readonly maxTokens: number | undefined;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly seed: number;
  readonly stop: readonly string[];
  readonly eosIds: readonly number[];
  readonly signal: AbortSignal | undefined;
  readonly prefixLength: number | "prompt";
  /** Search with beams where there are more than one. */
  readonly beams: Pick<BeamOptions, "beams" | "numReturn" | "lengthPenalty" | "earlyStopping">;
  readonly rules: TokenRules;
  /** Undefined for none. */
  readonly logprobs: number | undefined;
  /** Tokens of prompt and result, as the checkpoint wants them where the caller gives no maxTokens. */
  readonly maxLength: number | undefined;
}

const DEFAULT_MAX_TOKENS = 256;
const MAX_LOGPROBS = 64;
const number = (min: number, max: number) => v.pipe(v.number(), v.minValue(min), v.maxValue(max));
const whole = (min: number, max: number) => v.pipe(number(min, max), v.integer());

const ids = v.array(whole(0, 1 << 24));

const schema = v.strictObject({
  maxTokens: v.optional(whole(1, 1 << 24)),
  greedy: v.optional(v.boolean()),
  temperature: v.optional(number(0, 100)),
  topK: v.optional(whole(0, 1 << 24)),
  topP: v.optional(v.pipe(number(0, 1), v.gtValue(0))),
  minP: v.optional(number(0, 1)),
  repetitionPenalty: v.optional(v.pipe(number(0, 100), v.gtValue(0))),
  seed: v.optional(whole(0, Number.MAX_SAFE_INTEGER)),
  stop: v.optional(v.union([v.pipe(v.string(), v.minLength(1)), v.array(v.pipe(v.string(), v.minLength(1)))])),
  signal: v.optional(v.custom<AbortSignal>((s) => s instanceof AbortSignal)),
  beams: v.optional(whole(1, MAX_BEAMS)),
  numReturn: v.optional(whole(1, MAX_BEAMS)),
  lengthPenalty: v.optional(number(-100, 100)),
  earlyStopping: v.optional(v.union([v.boolean(), v.literal("never")])),
  noRepeatNgram: v.optional(whole(0, 1 << 24)),
  badWords: v.optional(v.array(v.pipe(ids, v.minLength(1)))),
  suppressTokens: v.optional(ids),
  beginSuppressTokens: v.optional(ids),
  forcedBos: v.optional(whole(0, 1 << 24)),
  forcedEos: v.optional(v.union([whole(0, 1 << 24), ids])),
  minLength: v.optional(whole(0, 1 << 24)),
  logprobs: v.optional(whole(0, MAX_LOGPROBS)),
  prefixLength: v.optional(v.union([v.literal("prompt"), whole(0, 1 << 24)])),
  attention: v.optional(
    v.strictObject({
      kinds: v.optional(v.array(v.picklist(["self", "memory"]))),
      layers: v.optional(v.array(v.number())),
      heads: v.optional(v.array(v.number())),
      weights: v.optional(v.boolean()),
      summary: v.optional(v.union([v.boolean(), v.strictObject({ topKeys: v.optional(v.number()) })])),
      onStep: v.optional(v.function()),
    }),
  ),
});

/** Checks options and fills in defaults: the caller's word first, then the checkpoint's. Throws `USAGE`. */
export function resolveGeneration(options: GenerateOptions, defaults: GenerationDefaults): ResolvedGeneration {
  const parsed = v.safeParse(schema, options);
  if (!parsed.success) {
    const faults = describeFaults(parsed.issues, "options");
    throw new HeedError("USAGE", `generate: ${faults}. Options: ${Object.keys(schema.entries).join(", ")}.`);
  }
  const sampling = (["temperature", "topK", "topP", "minP"] as const).filter(
    (name) => options[name] !== undefined && options[name] !== 0,
  );
  if (options.temperature === 0 && sampling.length > 0) {
    throw new HeedError(
      "USAGE",
      `generate: a temperature of 0 takes no ${sampling.join(", ")}. Leave out one or the other.`,
    );
  }
  if (options.greedy && sampling.length > 0) {
    throw new HeedError("USAGE", `generate: greedy takes no ${sampling.join(", ")}. Leave out one or the other.`);
  }
  const samples = options.greedy ? false : sampling.length > 0 || defaults.sample;
  const beams = resolveBeams(options, defaults, samples);
  checkBeams(options, sampling, beams.beams);
  checkSettings(defaults, { samples: samples && sampling.length === 0, isSearch: beams.beams > 1 });
  const own = defaults.sample;
  return {
    maxTokens: options.maxTokens ?? defaults.maxTokens,
    temperature: samples ? (options.temperature ?? (own ? defaults.temperature : 1)) : 0,
    topK: options.topK ?? (own ? defaults.topK : 0),
    topP: options.topP ?? (own ? defaults.topP : 1),
    minP: options.minP ?? (own ? defaults.minP : 0),
    repetitionPenalty: options.repetitionPenalty ?? defaults.repetitionPenalty,
    seed: options.seed ?? randomSeed(),
    stop: options.stop === undefined ? defaults.stop : [options.stop].flat(),
    eosIds: defaults.eosIds,
    signal: options.signal,
    prefixLength: options.prefixLength ?? 0,
    beams,
    rules: resolveRules(options, defaults),
    logprobs: options.logprobs,
    maxLength: options.maxTokens === undefined ? defaults.maxLength : undefined,
  };
}

/** `beams`: those of the search, 1 where there is none. Nothing that was asked for is left out in silence. */
function checkBeams(options: GenerateOptions, sampling: readonly string[], beams: number): void {
  const { greedy, logprobs, attention, numReturn = 1 } = options;
  if (beams > 1) {
    const wrong = [...sampling, ...(greedy ? ["greedy"] : []), ...(logprobs === undefined ? [] : ["logprobs"])];
    if (attention) wrong.push("attention");
    if (wrong.length > 0)
      throw new HeedError("USAGE", `generate: a beam search takes no ${wrong.join(", ")}. Leave out one or the other.`);
  }
  if (numReturn > beams) {
    throw new HeedError(
      "USAGE",
      `generate: numReturn must be at most beams; got ${numReturn} of ${beams}. Ask for more beams, or fewer results.`,
    );
  }
  const idle = (["lengthPenalty", "earlyStopping"] as const).filter((name) => options[name] !== undefined);
  if (beams === 1 && idle.length > 0) {
    throw new HeedError(
      "USAGE",
      `generate: ${idle.join(" and ")} mean${idle.length > 1 ? "" : "s"} something to a beam search alone; there is none here. Add beams (at least 2), or leave ${idle.length > 1 ? "them" : "it"} out.`,
    );
  }
}

/** What the checkpoint's authors asked for and Heed can't do is said. */
function checkSettings(
  { unread }: GenerationDefaults,
  { samples, isSearch }: { readonly samples: boolean; readonly isSearch: boolean },
): void {
  const wrong = [...unread.always, ...(samples ? unread.sampling : []), ...(isSearch ? unread.search : [])];
  if (wrong.length === 0) return;
  throw new HeedError(
    "UNSUPPORTED",
    `generate: generation_config.json asks for ${wrong.join(", ")}, which Heed does not do. Say how to generate (greedy, or topP and the like), or remove the setting from the file.`,
  );
}

/** Checks what options say of a prompt of so many tokens and of a vocabulary. Throws `USAGE`. */
export function checkTokens(options: GenerateOptions, promptTokens: number, vocabSize: number): void {
  const { forcedBos, forcedEos = [], badWords = [], suppressTokens = [], beginSuppressTokens = [] } = options;
  if (forcedBos !== undefined && promptTokens !== 1) {
    throw new HeedError(
      "USAGE",
      `generate: forcedBos is the token that follows a prompt of one token; this one has ${promptTokens}. Add the token to the prompt instead.`,
    );
  }
  const named = { forcedBos, forcedEos, badWords, suppressTokens, beginSuppressTokens };
  for (const [name, value] of Object.entries(named)) {
    const wrong = [value].flat(2).find((id) => id !== undefined && id >= vocabSize);
    if (wrong === undefined) continue;
    throw new HeedError("USAGE", `generate: ${name} must have token ids below ${vocabSize}; got ${wrong}.`);
  }
}

/** A search is the default only where nothing was asked for that it can't do. */
function resolveBeams(
  options: GenerateOptions,
  { beams }: GenerationDefaults,
  samples: boolean,
): ResolvedGeneration["beams"] {
  const isPlain =
    samples ||
    options.greedy ||
    options.temperature === 0 ||
    options.logprobs !== undefined ||
    options.attention !== undefined;
  return {
    beams: options.beams ?? (isPlain ? 1 : beams.beams),
    numReturn: options.numReturn ?? beams.numReturn,
    lengthPenalty: options.lengthPenalty ?? beams.lengthPenalty,
    earlyStopping: options.earlyStopping ?? beams.earlyStopping,
  };
}

function resolveRules(options: GenerateOptions, { rules, repetitionPenalty }: GenerationDefaults): TokenRules {
  const { noRepeatNgram, badWords, suppressTokens, beginSuppressTokens, forcedBos, forcedEos, minLength } = options;
  return {
    noRepeatNgram: noRepeatNgram ?? rules.noRepeatNgram,
    badWords: badWords ?? rules.badWords,
    suppressed: suppressTokens ?? rules.suppressed,
    beginSuppressed: beginSuppressTokens ?? rules.beginSuppressed,
    forcedBos: forcedBos ?? rules.forcedBos,
    forcedEos: forcedEos === undefined ? rules.forcedEos : typeof forcedEos === "number" ? [forcedEos] : forcedEos,
    minLength: minLength === undefined ? rules.minLength : 0,
    minNewTokens: minLength ?? rules.minNewTokens,
    repetitionPenalty: options.repetitionPenalty ?? repetitionPenalty,
    isRenormalised: rules.isRenormalised,
  };
}

/** New tokens that a prompt leaves room for. Throws `LIMIT` when there is none. */
export function tokenBudget(options: ResolvedGeneration, promptTokens: number, contextLength: number): number {
  const room = contextLength - promptTokens;
  if (room < 1) {
    throw new HeedError(
      "LIMIT",
      `generate: the prompt has ${promptTokens} tokens, the context ${contextLength}; at least one must be left. Shorten the prompt, or load the model with a larger cacheTokens if its own context allows.`,
    );
  }
  const { maxTokens, maxLength } = options;
  const wanted = maxTokens ?? (maxLength === undefined ? DEFAULT_MAX_TOKENS : Math.max(1, maxLength - promptTokens));
  return Math.min(wanted, room);
}

function randomSeed(): number {
  const [a = 0] = crypto.getRandomValues(new Uint32Array(1));
  return a;
}
