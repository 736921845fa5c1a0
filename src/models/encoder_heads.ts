import { HeedError } from "../core/errors.ts";
import { isObject } from "../core/json.ts";
import { dim } from "../core/shape.ts";
import type { Projection } from "../nn/blocks/gated_block.ts";
import type { Norm } from "../nn/blocks/plain_block.ts";
import { activation } from "../ops/activation.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import { everyNthRow } from "../ops/every_nth_row.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Recorder, Value } from "../ops/op.ts";
import type { EncoderFacts, HeadInputs } from "./encoder_family.ts";
import type { WeightRule } from "./family.ts";
import { gainRules } from "./rules.ts";

/** What a head tells: the word behind a mask, the class of a text, the label of each token, where an answer is. */
export type HeadKind = "words" | "classes" | "labels" | "span";

/** How a family lays a kind of head out: dense, activation, norm, output, each but the last where it is named. */
export interface HeadLayout {
  /** Reads the first token of each sequence alone. */
  readonly first?: boolean;
  /** Its activation is that of the blocks, unless it says otherwise. */
  readonly dense?: { readonly name: string; readonly activation?: ActivationName };
  readonly norm?: string;
  /** The output layer; of words it is the table of tokens, but for checkpoints that say otherwise. */
  readonly out: string;
  /** Name of the output's bias, if it is not that of `out`. */
  readonly bias?: string;
  /** Where it drops: before the dense layer, before the output. */
  readonly dropout: readonly ("dense" | "out")[];
}

/** The layouts of a family, `next` that of the class "the second sentence follows the first"; a config's `architectures` says which one a checkpoint has. */
export type HeadLayouts = Readonly<Partial<Record<HeadKind | "next", HeadLayout>>>;

/** How scores of classes are read: one class of all, each for itself, or the number itself. */
export type ProblemType = "single_label" | "multi_label" | "regression";

/** The head of a checkpoint. */
export interface EncoderHead {
  readonly kind: HeadKind;
  /** What `architectures` calls the model. */
  readonly architecture: string;
  readonly layout: HeadLayout;
  /** Names of classes or of token labels; empty for other heads. */
  readonly labels: readonly string[];
  readonly problem: ProblemType;
  /** The output is the table of tokens. */
  readonly tied: boolean;
}

/** Ends of names in `architectures`; a plain encoder ends in Model. */
const KINDS: readonly (readonly [RegExp, HeadKind | undefined, (keyof HeadLayouts)?])[] = [
  [/For(MaskedLM|PreTraining)$/, "words"],
  [/ForSequenceClassification$/, "classes"],
  [/ForNextSentencePrediction$/, "classes", "next"],
  [/ForTokenClassification$/, "labels"],
  [/ForQuestionAnswering$/, "span"],
  [/Model$/, undefined],
];

/** Most labels that a config may state. */
const MAX_LABELS = 1 << 16;

/** The head that `architectures` names; undefined for a plain encoder. Throws `UNSUPPORTED` for one that is not known, `BAD_FILE`. */
export function openHead(
  family: string,
  fields: Readonly<Record<string, unknown>>,
  layouts: HeadLayouts,
): EncoderHead | undefined {
  const architectures = fields["architectures"];
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  if (typeof architecture !== "string") return undefined;
  const found = KINDS.find(([end]) => end.test(architecture));
  const kind = found?.[1];
  if (found && kind === undefined) return undefined;
  const layout = kind && layouts[found?.[2] ?? kind];
  if (!kind || !layout) {
    throw new HeedError(
      "UNSUPPORTED",
      `${family}: the head of ${architecture} (architectures in config.json) is not supported; Heed has those of …ForMaskedLM, ` +
        "…ForSequenceClassification, …ForTokenClassification, …ForQuestionAnswering and, for BERT, …ForNextSentencePrediction, and …Model without one.",
    );
  }
  return {
    kind,
    architecture,
    layout,
    labels: kind === "classes" || kind === "labels" ? readLabels(family, fields) : [],
    problem: readProblem(family, fields),
    tied: kind === "words" && fields["tie_word_embeddings"] !== false,
  };
}

/** `id2label`, or LABEL_0 and so on for `num_labels`; two by default, as in transformers. */
function readLabels(family: string, { id2label, num_labels }: Readonly<Record<string, unknown>>): string[] {
  const named = isObject(id2label) ? id2label : {};
  const count = isObject(id2label) ? Object.keys(named).length : (num_labels ?? 2);
  const fail = (got: string) =>
    new HeedError("BAD_FILE", `${family}: id2label must name the labels 0, 1, …; got ${got}. Check config.json.`);
  if (typeof count !== "number" || !Number.isInteger(count) || count < 1 || count > MAX_LABELS)
    throw fail(String(count));
  return Array.from({ length: count }, (_, i) => {
    const label = isObject(id2label) ? named[i] : `LABEL_${i}`;
    if (typeof label !== "string" && typeof label !== "number") throw fail(`nothing for ${i}`);
    return String(label);
  });
}

function readProblem(family: string, fields: Readonly<Record<string, unknown>>): ProblemType {
  const problem = fields["problem_type"] ?? undefined;
  if (problem === undefined) return readLabels(family, fields).length === 1 ? "regression" : "single_label";
  if (problem === "single_label_classification") return "single_label";
  if (problem === "multi_label_classification") return "multi_label";
  if (problem === "regression") return "regression";
  throw new HeedError(
    "UNSUPPORTED",
    `${family}: problem_type ${JSON.stringify(problem)} in config.json is not known; it may be regression, single_label_classification or multi_label_classification.`,
  );
}

/** Numbers that a head gives for a row. */
export function headWidth({ kind, labels }: EncoderHead, { vocabSize }: EncoderFacts): number {
  if (kind === "words") return vocabSize;
  return kind === "span" ? 2 : labels.length;
}

/** Where a head's weights are. Fresh heads are drawn as BERT's are, with deviation 0.02 (arXiv 1810.04805, released code). */
export function headRules(head: EncoderHead, facts: EncoderFacts) {
  const { layout, tied, kind } = head;
  const inner = kind === "words" ? facts.tokenWidth : facts.width;
  const rows = headWidth(head, facts);
  const matrix = (name: string, height: number, width: number): WeightRule => ({
    ...{ from: [`${name}.weight`], shape: [height, width], role: "matrix" },
  });
  const bias = (name: string, size: number, or: readonly string[] = []): WeightRule => ({
    ...{ from: [name], shape: [size], role: "vector", or },
  });
  // A tied output shares its bias as well; one of its own has its own, in files that know both.
  const biases = [`${layout.out}.bias`, ...(layout.bias === undefined ? [] : [layout.bias])];
  if (tied) biases.reverse();
  return {
    dense: layout.dense && {
      weight: matrix(layout.dense.name, inner, facts.width),
      bias: bias(`${layout.dense.name}.bias`, inner),
    },
    norm: layout.norm === undefined ? undefined : gainRules(layout.norm, inner),
    out: {
      weight: tied ? undefined : matrix(layout.out, rows, inner),
      bias: bias(biases[0] ?? "", rows, biases.slice(1)),
    },
  };
}

/** The weights of a head, whose parts depend on its layout. */
export interface HeadWeights {
  readonly dense?: Projection | undefined;
  readonly norm?: Norm | undefined;
  readonly out: { readonly weight?: Value | undefined; readonly bias: Value };
}

interface HeadValues extends HeadInputs {
  /** `[B·T, C]` */
  readonly hidden: Value;
  /** `[V, E]` */
  readonly tokens: Value;
  readonly facts: EncoderFacts;
}

/** `out(dropout(norm(act(dense(dropout(x))))))`, each part where the layout has it. */
export function recordHead(
  rec: Recorder,
  { layout }: EncoderHead,
  w: HeadWeights,
  { hidden, batch, step, tokens, facts }: HeadValues,
): Value {
  const drop = (place: "dense" | "out", x: Value) => (layout.dropout.includes(place) ? step.dropout(rec, x) : x);
  const logits = rec.scope("head", () => {
    let x = layout.first ? everyNthRow(rec, hidden, dim(hidden.shape, 0) / batch) : hidden; // [B or B·T, C]
    if (layout.dense && w.dense) {
      const dense = linear(rec, drop("dense", x), w.dense.weight, { bias: w.dense.bias });
      x = rec.name(
        activation(rec, rec.name(dense, "dense"), layout.dense.activation ?? facts.activation),
        "activation",
      );
    }
    if (w.norm) x = rec.name(layerNorm(rec, x, w.norm.weight, w.norm.bias, { eps: facts.normEps }), "norm");
    return linear(rec, drop("out", x), w.out.weight ?? tokens, { bias: w.out.bias });
  });
  return rec.name(logits, "logits");
}

/** A pattern of the tensors of heads and poolers, which a checkpoint may hold beside those that its own head uses. */
export function headTensors(layouts: HeadLayouts, pooler: string | undefined): RegExp {
  const layers = Object.values(layouts).flatMap(({ dense, norm, out, bias }) => [dense?.name, norm, out, bias, pooler]);
  const names = [...new Set(layers.filter((name) => name !== undefined))].map((name) => name.replaceAll(".", "\\."));
  return new RegExp(`^(?:\\w+\\.)?(?:${names.join("|")})(?:\\.(?:weight|bias|gamma|beta))?$`);
}
