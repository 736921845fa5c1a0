import banCode from "../../shaders/ban_tokens.wgsl";
import givenCode from "../../shaders/lib/rules_given.wgsl";
import noneCode from "../../shaders/lib/rules_none.wgsl";
import scoreCode from "../../shaders/lib/sample_score.wgsl";
import topCode from "../../shaders/top_tokens.wgsl";
import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowReduction, rowsAndColumns } from "./rows.ts";
import { seenWords } from "./sample.ts";

const TOP = shader("top_tokens.wgsl", topCode);
const BAN = shader("ban_tokens.wgsl", banCode);
const RULES_GIVEN = shader("lib/rules_given.wgsl", givenCode);
const RULES_NONE = shader("lib/rules_none.wgsl", noneCode);
const SCORE = shader("lib/sample_score.wgsl", scoreCode);

/** Most tokens that {@link topTokens} ranks. */
export const MAX_TOP_TOKENS = 256;

/** Stands where there is no token: fewer are left than were asked for, or the row's logits are no numbers. */
export const NO_TOKEN = 0xffffffff;

/** What {@link topTokens} takes. */
export interface TopTokensOptions {
  /** How many tokens are ranked, 0 to 256. */
  readonly top: number;
}

const TOP_TOKENS: OpDef<TopTokensOptions> = {
  name: "topTokens",
  infer({ logits, chosen, rules }, { top }) {
    const { rows, columns } = rowsAndColumns("topTokens", "logits", logits);
    if (!(Number.isInteger(top) && top >= 0 && top <= MAX_TOP_TOKENS))
      throw shapeError("topTokens", `top must be a whole number from 0 to ${MAX_TOP_TOKENS}`, String(top));
    if (columns > 2 ** 24)
      throw shapeError("topTokens", "V must be at most 2^24", formatTensor("logits", need({ logits }, "logits")));
    check("topTokens", "chosen", chosen, [rows]);
    check("topTokens", "rules", rules, [rows, ruleWords(columns)]);
    return [{ shape: [rows, 1 + top, 2], dtype: "u32" }];
  },
  lower({ inputs, outputs, attrs: { top } }, { facts, dispatch }) {
    const logits = need(inputs, "logits");
    const { rows, columns } = rowsAndColumns("topTokens", "logits", logits);
    const { offset, rowStride } = layoutIn(logits, 1);
    const { chosen, rules } = inputs;
    const { variant, workgroups } = rowReduction(facts, rows, columns);
    dispatch({
      kernel: {
        ...variant,
        kernel: TOP,
        parts: [SCORE, rules ? RULES_GIVEN : RULES_NONE, ...(variant.parts ?? [])],
      },
      bindings: { logits, chosen: chosen ?? logits, best: only(outputs), ...(rules ? { rules } : {}) },
      params: {
        ...{ rows, vocabulary: columns, offset, row_stride: rowStride, top },
        words: seenWords(columns),
        has_chosen: chosen ? 1 : 0,
      },
      workgroups,
    });
  },
};

const BAN_TOKENS: OpDef<null> = {
  name: "banTokens",
  infer({ logits, banned }) {
    const { rows, columns } = rowsAndColumns("banTokens", "logits", logits);
    check("banTokens", "banned", need({ banned }, "banned"), [rows, seenWords(columns)]);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs }, { dispatch }) {
    const [logits, banned] = [need(inputs, "logits"), need(inputs, "banned")];
    const { rows, columns } = rowsAndColumns("banTokens", "logits", logits);
    const { offset, rowStride } = layoutIn(logits, 1);
    dispatch({
      kernel: { kernel: BAN },
      bindings: { logits, banned, out: only(outputs) },
      params: { rows, vocabulary: columns, offset, row_stride: rowStride, words: seenWords(columns) },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
};

/** Words of a row of {@link topTokens}' rules: a penalty, a flag, a token, then a bit a token for banned and for seen ones. */
export function ruleWords(vocabulary: number): number {
  return 3 + 2 * seenWords(vocabulary);
}

/**
 * The likeliest next tokens of each row with their log-probabilities, and that of a token that was chosen.
 *
 * logits `[N, V]` f32; chosen `[N]` u32; rules `[N, ruleWords(V)]` u32: bits of the f32 factor of seen tokens' log-probabilities,
 * 1 where the scores are brought to a sum of one again over the tokens that are left, the first token of a group ({@link NO_TOKEN}
 * for none) whose tokens alone may come where they are together likelier than any before them, then a bit a token for those that are
 * left out and for those that were seen → `[N, 1 + top, 2]` u32 (token, bits of an f32): the chosen token, then the others by falling
 * score. It has no gradient. Throws `SHAPE`.
 */
export function topTokens(
  rec: Recorder,
  inputs: { readonly logits: Value; readonly chosen?: Value; readonly rules?: Value },
  options: TopTokensOptions,
): Value {
  return only(rec.record(TOP_TOKENS, { ...inputs }, options));
}

/** Logits `[N, V]` f32 with −∞ where `banned` `[N, seenWords(V)]` u32 has a token's bit. It has no gradient. Throws `SHAPE`. */
export function banTokens(rec: Recorder, inputs: { readonly logits: Value; readonly banned: Value }): Value {
  return only(rec.record(BAN_TOKENS, { ...inputs }, null));
}

function check(op: string, name: string, value: Value | undefined, shape: readonly number[]): void {
  if (!value) return;
  if (value.dtype === "u32" && value.shape.length === shape.length && shape.every((d, i) => d === value.shape[i]))
    return;
  throw shapeError(op, `${name} must be [${shape.join(", ")}] u32`, formatTensor(name, value));
}
