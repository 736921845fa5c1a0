import type { EncoderModel } from "../../src/index.ts";
import type { Ability, Bar, ReadReport, ReadRequest, Span } from "../protocol.ts";

import { layerWeights } from "./look.ts";
import { tokenText } from "./token_text.ts";

/** What a model can do, by its head. */
export function abilitiesOf({ head }: EncoderModel): Ability[] {
  const byHead: Record<string, Ability> = { span: "answer", classes: "classify", labels: "label", words: "fill" };
  const own = head === undefined ? undefined : byHead[head];
  return own ? [own, "embed"] : ["embed"];
}

/** How the model's masks are written, where it knows any. */
export function maskOf({ tokenizer }: EncoderModel): string | undefined {
  return ["[MASK]", "<mask>"].find((token) => tokenizer?.tokenToId(token) !== undefined);
}

/** Runs a task on a text, and says its result as the page shows it. */
export async function read(model: EncoderModel, request: ReadRequest): Promise<ReadReport> {
  const told = await tell(model, request);
  const seen = await lookAt(model, request);
  return { ...{ text: request.text, spans: [], bars: [] }, ...seen, ...told };
}

type Seen = Pick<ReadReport, "tokens" | "layers" | "padding">;

const PADDING = { id: -1, text: "[PAD]" };

/** Longer texts are read, but every weight of every head would be too much to show. */
const LOOKED_AT = 256;

/** What every head looks at in the text, or in the question and its context. */
async function lookAt(model: EncoderModel, request: ReadRequest): Promise<Seen> {
  const { tokenizer } = model;
  const { ability, text, second } = request;
  if (ability === "embed" && second !== undefined) return lookAtShorter(model, text, second);
  const pair = ability === "answer" && second !== undefined;
  const ids = pair ? tokenizer?.encodePair(second, text).ids : tokenizer?.encode(text);
  if (!ids || ids.length > LOOKED_AT) return { tokens: [], layers: [], padding: 0 };
  const { attention } = await model.run(pair ? { text: second, pair: text } : ids, { attention: true, logits: false });
  return { tokens: ids.map((id) => tokenText(tokenizer, id)), layers: attention.map(layerWeights), padding: 0 };
}

/** Texts that are compared are read as one batch: the shorter one is padded to the length of the longer, and must not see that. */
async function lookAtShorter(model: EncoderModel, text: string, other: string): Promise<Seen> {
  const { tokenizer } = model;
  const [shorter, longer] = [text, other]
    .map((each) => tokenizer?.encode(each) ?? [])
    .sort((a, b) => a.length - b.length);
  if (!shorter || !longer || longer.length > LOOKED_AT) return { tokens: [], layers: [], padding: 0 };
  const padding = longer.length - shorter.length;
  const { attention } = await model.run(shorter, { attention: true, logits: false });
  const tokens = [...shorter.map((id) => tokenText(tokenizer, id)), ...Array.from({ length: padding }, () => PADDING)];
  return { tokens, layers: attention.map(layerWeights), padding };
}

type Told = Pick<ReadReport, "headline"> & Partial<ReadReport>;

async function tell(model: EncoderModel, { ability, text, second = "" }: ReadRequest): Promise<Told> {
  switch (ability) {
    case "answer":
      return answer(model, text, second);
    case "classify": {
      const { label, scores } = await model.classify(text);
      return { headline: label, bars: [scores.map(({ label, score }) => bar(label, score))] };
    }
    case "label": {
      const entities = await model.label(text);
      const spans = entities.map(({ start, end, label }): Span => ({ start, end, label }));
      const headline = entities.map(({ text, label }) => `${text}: ${label}`).join(" · ") || "–";
      return { headline, spans, bars: [entities.map(({ text, score }) => bar(text, score))] };
    }
    case "fill": {
      const { text: filled, masks } = await model.fill(text);
      return { headline: filled, bars: masks.map((words) => words.map(({ text, score }) => bar(text, score))) };
    }
    case "embed": {
      const [similarity = 0] = await model.similarity(text, [second]);
      return { headline: similarity.toFixed(4), bars: [[bar("cos", similarity)]] };
    }
  }
}

async function answer(model: EncoderModel, context: string, question: string): Promise<Told> {
  const found = await model.answer({ question, context }, { top: 5 });
  const { start, end } = found;
  const spans = start === undefined || end === undefined ? [] : [{ start, end, label: percent(found.score) }];
  const others = found.answers.map(({ text, score }) => bar(text, score));
  return { headline: found.text || "–", spans, bars: [[...others, bar("–", found.noAnswerScore)]] };
}

function bar(label: string, share: number): Bar {
  return { label, share, text: percent(share) };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
