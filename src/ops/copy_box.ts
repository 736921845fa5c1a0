import code from "../../shaders/copy_box.wgsl";
import widenedCode from "../../shaders/lib/box_widened.wgsl";
import wordsCode from "../../shaders/lib/box_words.wgsl";
import fillCode from "../../shaders/fill.wgsl";
import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { elementPart, link } from "./attention_parts.ts";
import { type Dispatch, only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

/** Four numbers, one for each axis. */
export type Box = readonly [number, number, number, number];

/** Where the elements of a box lie in a tensor, in elements. */
export interface BoxPlace {
  readonly offset: number;
  readonly strides: Box;
}

const KERNEL = shader("copy_box.wgsl", code);
const WORDS = shader("lib/box_words.wgsl", wordsCode);
const WIDENED = shader("lib/box_widened.wgsl", widenedCode);
const FILL = shader("fill.wgsl", fillCode);

/** The dispatch that copies a box of `size` from x to out; f16 is widened to f32, everything else copied bit by bit. */
export function boxDispatch(
  facts: GpuFacts,
  { x, out, size, from, to }: { x: Value; out: Value; size: Box; from: BoxPlace; to: BoxPlace },
): Dispatch {
  const count = numel(size);
  const parts = x.dtype === "f16" ? [elementPart("f16", facts), { parts: [WIDENED] }] : [{ parts: [WORDS] }];
  const strides = (name: string, place: BoxPlace) => [
    [`${name}_offset`, place.offset],
    ...place.strides.map((stride, i) => [`${name}_stride${i}`, stride]),
  ];
  return {
    kernel: link(KERNEL, ...parts),
    bindings: { x, out },
    params: {
      ...{ count, size1: size[1], size2: size[2], size3: size[3] },
      ...Object.fromEntries([...strides("x", from), ...strides("out", to)]),
    },
    workgroups: spreadWorkgroups(ceilDiv(count, 64)),
  };
}

/** The dispatch that sets all of out, f32, to 0. */
export function zeroDispatch(out: Value): Dispatch {
  const n = numel(out.shape);
  return {
    kernel: { kernel: FILL },
    bindings: { out },
    params: { n, value: 0 },
    workgroups: spreadWorkgroups(ceilDiv(n, 64)),
  };
}

/** The strides of a whole row-major tensor of four axes. */
function boxStrides([, b, c, d]: Box): Box {
  return [b * c * d, c * d, d, 1];
}

interface BoxAttrs {
  /** Of the whole tensor, four axes. */
  readonly whole: Box;
  readonly start: Box;
  readonly size: Box;
  /** Shape of the result. */
  readonly shape: readonly number[];
}

const TAKE_BOX: OpDef<BoxAttrs> = {
  name: "take_box",
  infer({ x }, { whole, start, size, shape }) {
    const value = need({ x }, "x");
    const fits = numel(whole) === numel(value.shape) && start.every((s, i) => s + (size[i] ?? 0) <= (whole[i] ?? 0));
    if (!fits) {
      const got = `${formatTensor("x", value)}, start ${start.join(", ")}, size ${size.join(", ")}`;
      throw shapeError("take_box", "the box must lie inside of x", got);
    }
    return [{ shape, dtype: value.dtype === "f16" ? "f32" : value.dtype }];
  },
  lower({ inputs, outputs, attrs: { whole, start, size } }, { facts, dispatch }) {
    const strides = boxStrides(whole);
    const offset = start.reduce((sum, s, i) => sum + s * (strides[i] ?? 0), 0);
    const to = { offset: 0, strides: boxStrides(size) };
    dispatch(boxDispatch(facts, { x: need(inputs, "x"), out: only(outputs), size, from: { offset, strides }, to }));
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    const { shape } = need(inputs, "x");
    return dout ? { x: only(rec.record(PLACE_BOX, { x: dout }, { ...attrs, shape })) } : {};
  },
};

/** The gradient of {@link takeBox}: 0 outside of the box. */
const PLACE_BOX: OpDef<BoxAttrs> = {
  name: "place_box",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs: { whole, start, size } }, { facts, dispatch }) {
    const out = only(outputs);
    dispatch(zeroDispatch(out));
    const strides = boxStrides(whole);
    const offset = start.reduce((sum, s, i) => sum + s * (strides[i] ?? 0), 0);
    const from = { offset: 0, strides: boxStrides(size) };
    dispatch(boxDispatch(facts, { x: need(inputs, "x"), out, size, from, to: { offset, strides } }));
  },
};

/**
 * A copy of a box of x, seen as four axes of sizes `whole`, in the shape given; f16 becomes f32. Throws `SHAPE` for a box that
 * x does not hold.
 */
export function takeBox(rec: Recorder, x: Value, box: BoxAttrs): Value {
  return only(rec.record(TAKE_BOX, { x }, box));
}
