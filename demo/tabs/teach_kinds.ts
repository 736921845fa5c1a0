import type { TaughtModel, TaughtSlot } from "../protocol.ts";
import type { Columns } from "./teach_lines.ts";

/** What can be taught. */
export type Subject = "small" | "medium" | TaughtSlot;

/** Whether all weights of a model are tuned, or an adapter beside them. */
export type How = "adapter" | "tune";

/** Sizes of new models. */
export const SIZES = {
  small: { kind: "new", layers: 2, heads: 2, width: 64 },
  medium: { kind: "new", layers: 4, heads: 4, width: 128 },
} as const satisfies Record<string, TaughtModel>;

/** What a training begins with, until a person says otherwise. */
export interface Beginning {
  readonly steps: number;
  readonly learningRate: number;
  readonly length: number;
  readonly batch: number;
}

const BEGINNINGS: Readonly<Record<Subject, Readonly<Record<How, Beginning>>>> = {
  small: both({ steps: 300, learningRate: 0.002, length: 64, batch: 8 }),
  medium: both({ steps: 300, learningRate: 0.002, length: 128, batch: 6 }),
  text: {
    tune: { steps: 60, learningRate: 0.0003, length: 64, batch: 8 },
    adapter: { steps: 60, learningRate: 0.003, length: 64, batch: 8 },
  },
  translator: {
    tune: { steps: 60, learningRate: 0.0008, length: 128, batch: 16 },
    adapter: { steps: 100, learningRate: 0.003, length: 128, batch: 16 },
  },
  reader: {
    tune: { steps: 60, learningRate: 0.0001, length: 128, batch: 8 },
    adapter: { steps: 80, learningRate: 0.002, length: 128, batch: 8 },
  },
};

function both(beginning: Beginning): Record<How, Beginning> {
  return { tune: beginning, adapter: beginning };
}

/** What a training of a subject begins with. */
export function beginningOf(subject: Subject, how: How): Beginning {
  return BEGINNINGS[subject][how];
}

/** The model that is tuned, if it is none that is new. */
export function slotOf(subject: Subject): TaughtSlot | undefined {
  return subject === "small" || subject === "medium" ? undefined : subject;
}

/** The columns of a subject's lines; undefined where plain text is learnt. */
export function columnsFor(subject: Subject): Columns | undefined {
  if (subject === "translator") return "translation";
  return subject === "reader" ? "label" : undefined;
}
