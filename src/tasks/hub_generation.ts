import * as v from "valibot";
import { HeedError } from "../core/errors.ts";
import { describeFaults } from "../core/faults.ts";
import { isObject } from "../core/json.ts";
import { type BeamOptions, MAX_BEAMS } from "./beam_search.ts";
import type { TokenRules } from "./token_rules.ts";

const hubSchema = v.object({
  do_sample: v.nullish(v.boolean(), false),
  temperature: v.nullish(v.number()),
  top_k: v.nullish(v.number()),
  top_p: v.nullish(v.number()),
  min_p: v.nullish(v.number()),
  repetition_penalty: v.nullish(v.number()),
  eos_token_id: v.nullish(v.union([v.number(), v.array(v.number())])),
  max_new_tokens: v.nullish(v.number()),
  max_length: v.nullish(v.number()),
  min_length: v.nullish(v.number()),
  min_new_tokens: v.nullish(v.number()),
  num_beams: v.nullish(v.number()),
  num_return_sequences: v.nullish(v.number()),
  length_penalty: v.nullish(v.number()),
  early_stopping: v.nullish(v.union([v.boolean(), v.literal("never")])),
  no_repeat_ngram_size: v.nullish(v.number()),
  bad_words_ids: v.nullish(v.array(v.array(v.number()))),
  suppress_tokens: v.nullish(v.array(v.number())),
  begin_suppress_tokens: v.nullish(v.array(v.number())),
  forced_bos_token_id: v.nullish(v.number()),
  forced_eos_token_id: v.nullish(v.union([v.number(), v.array(v.number())])),
  renormalize_logits: v.nullish(v.boolean()),
  stop_strings: v.nullish(v.union([v.string(), v.array(v.string())])),
});

type HubGeneration = v.InferOutput<typeof hubSchema>;

/** What the checkpoint's own files say about generation. */
export interface GenerationDefaults {
  readonly sample: boolean;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly eosIds: readonly number[];
  readonly maxTokens: number | undefined;
  /** Tokens of prompt and result. */
  readonly maxLength: number | undefined;
  readonly beams: Pick<BeamOptions, "beams" | "numReturn" | "lengthPenalty" | "earlyStopping">;
  readonly rules: Omit<TokenRules, "repetitionPenalty">;
  readonly stop: readonly string[];
  /** Settings that the file has and Heed does not, by what they would change. */
  readonly unread: Readonly<Record<Use, readonly string[]>>;
}

/** What a setting changes: draws, searches, or everything. */
type Use = "sampling" | "search" | "always";

/** Settings that Heed does not honour, with the values at which they change nothing. */
const UNREAD: Readonly<Record<Use, Readonly<Record<string, number | undefined>>>> = {
  sampling: { typical_p: 1, epsilon_cutoff: 0, eta_cutoff: 0, top_h: undefined },
  search: { num_beam_groups: 1, diversity_penalty: 0 },
  always: {
    ...{ encoder_repetition_penalty: 1, encoder_no_repeat_ngram_size: 0, guidance_scale: 1, penalty_alpha: 0 },
    ...{ exponential_decay_length_penalty: undefined, sequence_bias: undefined },
  },
};

function unreadSettings(file: unknown, use: Use): string[] {
  const fields = isObject(file) ? file : {};
  return Object.entries(UNREAD[use])
    .filter(([name, neutral]) => (fields[name] ?? neutral) !== neutral)
    .map(([name]) => `${name} ${JSON.stringify(fields[name])}`);
}

/** Reads generation_config.json, and the end token of config.json where the former has none. */
export function readGenerationDefaults(
  config: Readonly<Record<string, unknown>>,
  generationConfig: unknown,
): GenerationDefaults {
  const hub = v.safeParse(hubSchema, generationConfig ?? {});
  if (!hub.success) {
    throw new HeedError(
      "BAD_FILE",
      `load: generation_config.json is malformed: ${describeFaults(hub.issues, "it")}. Mend the file, or remove it.`,
    );
  }
  const g = hub.output;
  const eos = g.eos_token_id ?? config.eos_token_id ?? [];
  return {
    sample: g.do_sample,
    temperature: g.temperature ?? 1,
    topK: g.top_k ?? (g.do_sample ? 50 : 0),
    topP: g.top_p ?? 1,
    minP: g.min_p ?? 0,
    repetitionPenalty: g.repetition_penalty ?? 1,
    eosIds: (Array.isArray(eos) ? eos : [eos]).filter((id): id is number => typeof id === "number"),
    maxTokens: g.max_new_tokens ?? undefined,
    // 20 is what files say whose authors said nothing.
    maxLength: g.max_length === 20 ? undefined : (g.max_length ?? undefined),
    beams: {
      beams: Math.min(g.num_beams ?? 1, MAX_BEAMS),
      numReturn: 1,
      lengthPenalty: g.length_penalty ?? 1,
      earlyStopping: g.early_stopping ?? false,
    },
    rules: hubRules(g),
    stop: [g.stop_strings ?? []].flat().filter((text) => text !== ""),
    unread: {
      sampling: unreadSettings(generationConfig, "sampling"),
      search: unreadSettings(generationConfig, "search"),
      always: unreadSettings(generationConfig, "always"),
    },
  };
}

function hubRules(g: HubGeneration): Omit<TokenRules, "repetitionPenalty"> {
  const forcedEos = g.forced_eos_token_id ?? [];
  return {
    noRepeatNgram: g.no_repeat_ngram_size ?? 0,
    badWords: (g.bad_words_ids ?? []).filter((word) => word.length > 0),
    suppressed: g.suppress_tokens ?? [],
    beginSuppressed: g.begin_suppress_tokens ?? [],
    forcedBos: g.forced_bos_token_id ?? undefined,
    forcedEos: typeof forcedEos === "number" ? [forcedEos] : forcedEos,
    minLength: g.min_length ?? 0,
    minNewTokens: g.min_new_tokens ?? 0,
    isRenormalised: g.renormalize_logits ?? false,
  };
}
