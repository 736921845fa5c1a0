import code from "../../shaders/attention_capture.wgsl";
import { ceilDiv, dim, numel } from "../core/shape.ts";
import type { AttentionOptions } from "./attention.ts";
import { elementPart, link, maskPart } from "./attention_parts.ts";
import { type AttentionLayout, type AttentionSizes, headStrides, scaleOf, softcapOf } from "./attention_spec.ts";
import {
  type Addends,
  addendsOf,
  linkModifiers,
  type MaskNumbers,
  type ScoreSizes,
  splitMask,
} from "./attention_table.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { relativeBias, relativeStrides } from "./relative_bias.ts";
import { need } from "./rows.ts";

interface CaptureAttrs extends AttentionSizes, MaskNumbers, ScoreSizes {
  readonly layout: AttentionLayout;
  readonly chosen: number;
  readonly scale?: number;
  readonly softcap?: number;
}

const KERNEL = shader("attention_capture.wgsl", code);

const ATTENTION_CAPTURE: OpDef<CaptureAttrs> = {
  name: "attention_capture",
  infer({ lists }, { batch, chosen, keyLength }) {
    const rows = dim(need({ lists }, "lists").shape, 0) - chosen;
    return [{ shape: [batch, chosen, rows, keyLength], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, context) {
    const weights = only(outputs);
    const count = numel(weights.shape);
    if (count === 0) return;
    const [q, k] = [need(inputs, "q"), need(inputs, "k")];
    const { heads, kvHeads, headDim, queryLength, keyLength, layout } = attrs;
    const modifiers = linkModifiers(context, "attention", inputs, attrs, attrs, addends(inputs, attrs));
    const places = {
      q: headStrides(q, layout, { heads, length: queryLength, dim: headDim }),
      k: headStrides(k, layout, { heads: kvHeads, length: keyLength, dim: headDim }),
    };
    const element = elementPart(q.dtype as "f32" | "f16", context.facts);
    context.dispatch({
      kernel: link(KERNEL, maskPart(), modifiers.parts, element),
      bindings: { q, k, lists: need(inputs, "lists"), lse: need(inputs, "lse"), weights, ...modifiers.bindings },
      params: {
        ...modifiers.params,
        ...{ count, chosen: attrs.chosen, rows: dim(weights.shape, 2), width: headDim, group: heads / kvHeads },
        ...{ heads, queries: queryLength, keys: keyLength },
        scale: scaleOf("attention", attrs),
        softcap: softcapOf("attention", attrs.softcap),
        ...Object.fromEntries(
          Object.entries(places).flatMap(([name, at]) => [
            [`${name}_offset`, at.offset],
            [`${name}_batch`, at.batch],
            [`${name}_head`, at.head],
            [`${name}_row`, at.row],
          ]),
        ),
      },
      workgroups: spreadWorkgroups(ceilDiv(count, 64)),
    });
  },
};

/** What is added to scores: a relative bias takes the binding that is free. */
function addends(inputs: Readonly<Record<string, Value | undefined>>, { softcap, queryLength }: CaptureAttrs): Addends {
  const given = { ...addendsOf(inputs), isCapped: softcap !== undefined };
  const { relative } = inputs;
  if (!relative) return given;
  const addend = { value: relative, strides: relativeStrides(relative, queryLength) };
  return given.bias ? { ...given, mask: addend } : { ...given, bias: addend };
}

/**
 * The weights of chosen heads and queries of a call of `attention`, rebuilt from its lse: `[B, h, r, S]` f32, before dropout. `lists` is
 * u32: `chosen` heads, then the queries, the same of every sequence. Not for hard selection, nor for bias, mask and relative bias
 * together: there `attentionUnfused` has them. No gradient.
 */
export function attentionCapture(
  rec: Recorder,
  { q, k, lse, lists, chosen }: { q: Value; k: Value; lse: Value; lists: Value; chosen: number },
  options: AttentionOptions,
): Value {
  const { batch, heads, kvHeads, headDim, queryLength, keyLength, layout, scale, softcap, alibiSlopes, bias, mask } =
    options;
  const { numbers, values } = splitMask(options);
  const sizes = { batch, heads, kvHeads, headDim, queryLength, keyLength, layout };
  const { queryStart } = options;
  const relative = options.relativeBias && relativeBias(rec, options.relativeBias, { ...sizes, queryStart });
  const inputs = { q, k, lse, lists, ...values, alibiSlopes, bias, mask, relative };
  return only(rec.record(ATTENTION_CAPTURE, inputs, { ...sizes, ...numbers, scale, softcap, chosen }));
}
