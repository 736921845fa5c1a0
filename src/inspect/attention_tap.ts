import { HeedError, invariant } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { AttendSeen, AttentionKind } from "../nn/dense_step.ts";
import { type AttendCache, type AttendInputs, type ScoreInputs, scoresOf } from "../nn/step.ts";
import { headWeights, headWeightsPaged } from "../ops/head_weights.ts";
import { PAGE_TOKENS } from "../ops/kv_append.ts";
import type { Value } from "../ops/op.ts";
import { weightSummary } from "../ops/weight_summary.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import type { CapturedAttention, ResolvedAttention } from "./attention_request.ts";

/** What is kept of a layer; the names of a program's outputs end in it. */
const PARTS = ["weights", "stats", "top_keys", "top_weights"] as const;
type Part = (typeof PARTS)[number];

const HEADS = "attention.heads";

/** An output of the program that holds something of a layer's attention. */
export interface AttentionOutput {
  readonly name: string;
  readonly kind: AttentionKind;
  readonly layer: number;
  readonly part: Part;
  /** `[heads, rows, n]`, 4 bytes an element. */
  readonly shape: Shape;
}

type WindowedInputs = ScoreInputs & Pick<AttendInputs, "window">;

/** Which rows of what was computed belong to the one who asked. */
export interface AttentionCut {
  readonly request: ResolvedAttention;
  /** Rows of the program, and the positions of the tokens that they hold. */
  readonly rows: readonly number[];
  readonly queries: readonly number[];
  readonly keys: number;
  /** Keys of the source, in encoder–decoders. */
  readonly sourceKeys?: number | undefined;
}

/** Records the capture of attention weights into a program, and takes apart what comes back. */
export class AttentionTap {
  readonly request: ResolvedAttention;
  readonly outputs: AttentionOutput[] = [];
  readonly #rec: ProgramRecorder;
  readonly #op: string;
  readonly #maxBytes: number;
  #headList: Value | undefined;

  /** `op` begins messages; `maxBytes` is what one storage binding holds. */
  constructor(
    rec: ProgramRecorder,
    request: ResolvedAttention,
    { op, maxBytes }: { readonly op: string; readonly maxBytes: number },
  ) {
    this.#rec = rec;
    this.request = request;
    this.#op = op;
    this.#maxBytes = maxBytes;
  }

  /** A layer of a whole sequence: the rows in `queries` `[r]` u32, whose last keys are `places` `[r]` u32 (default themselves). */
  recordDense({ layer, kind, q, k, spec, lse }: AttendSeen, queries: Value, places = queries): void {
    if (!this.#wants(kind, layer)) return;
    this.#check(queries.shape[0] ?? 0, k.shape[0] ?? 0);
    const { heads, kvHeads, headDim, scale = headDim ** -0.5, window, causal = false, prefix = 0 } = spec;
    invariant(typeof window !== "object" && typeof prefix === "number", "a mask that a run does not have");
    const { softcap, alibiSlopes, relativeBias } = spec;
    const options = { heads, kvHeads, headDim, scale, window, causal, prefix, softcap, alibiSlopes, relativeBias };
    const weights = headWeights(this.#rec, { q, k, headList: this.#heads(), queries, lse }, options);
    this.#keep({ kind, layer }, weights, places);
  }

  /** A layer of a decode step: every row, over the cache, or over the source's. */
  recordPaged(kind: AttentionKind, inputs: WindowedInputs, { kv, rowTable, pageTable }: AttendCache): void {
    const { layer } = inputs;
    if (!this.#wants(kind, layer)) return;
    this.#check(rowTable.shape[0] ?? 0, (pageTable.shape[1] ?? 0) * PAGE_TOKENS);
    const paged = { q: inputs.q, kv, headList: this.#heads(), rowTable, pageTable };
    this.#keep(
      { kind, layer },
      headWeightsPaged(this.#rec, paged, { ...scoresOf(inputs), window: inputs.window }),
      rowTable,
    );
  }

  /** Writes what the program has to know before its first replay. */
  prepare(plan: Plan): void {
    plan.write(HEADS, Uint32Array.from(this.request.heads));
  }

  /** The attention that `cut` asks for; `read` gives an output's elements. */
  cut(
    read: (output: AttentionOutput) => ArrayBuffer,
    { request, rows, queries, keys: selfKeys, sourceKeys = 0 }: AttentionCut,
  ): CapturedAttention[] {
    const heads = request.heads.map((h) => this.request.heads.indexOf(h));
    const wanted = request.kinds.flatMap((kind) => request.layers.map((layer) => ({ kind, layer })));
    return wanted.map(({ kind, layer }): CapturedAttention => {
      const keys = kind === "memory" ? sourceKeys : selfKeys;
      const part = (name: Part, length: number): ArrayBuffer => {
        const output = this.outputs.find((o) => o.kind === kind && o.layer === layer && o.part === name);
        invariant(output, `no ${name} of layer ${layer} was captured`);
        return cutRows(read(output), output.shape, { heads, rows, length });
      };
      const captured = { kind, layer, heads: request.heads, queries, keys };
      const weights = request.weights ? { weights: new Float32Array(part("weights", keys)) } : {};
      if (request.topKeys === 0) return { ...captured, ...weights };
      const stats = new Float32Array(part("stats", 3));
      const column = (i: number) => stats.filter((_, at) => at % 3 === i);
      const summary = {
        entropy: column(0),
        firstMass: column(1),
        meanDistance: column(2),
        topKeys: new Uint32Array(part("top_keys", request.topKeys)),
        topWeights: new Float32Array(part("top_weights", request.topKeys)),
      };
      return { ...captured, ...weights, summary };
    });
  }

  #wants(kind: AttentionKind, layer: number): boolean {
    return this.request.kinds.includes(kind) && this.request.layers.includes(layer);
  }

  #heads(): Value {
    this.#headList ??= this.#rec.input(HEADS, [this.request.heads.length], "u32");
    return this.#headList;
  }

  #check(rows: number, keys: number): void {
    const heads = this.request.heads.length;
    const bytes = heads * rows * keys * 4;
    if (bytes <= this.#maxBytes) return;
    throw new HeedError(
      "LIMIT",
      `${this.#op}: the weights of ${heads} heads, ${rows} queries and ${keys} keys take ${bytes} bytes a layer, a binding ` +
        `holds ${this.#maxBytes}. Choose fewer heads or queries in attention.`,
    );
  }

  #keep({ kind, layer }: Pick<AttentionOutput, "kind" | "layer">, weights: Value, places: Value): void {
    const keep = (part: Part, value: Value) => {
      const name = `${kind === "memory" ? "cross_attention" : "attention"}.${layer}.${part}`;
      this.#rec.output(name, value);
      this.outputs.push({ name, kind, layer, part, shape: value.shape });
    };
    if (this.request.weights) keep("weights", weights);
    if (this.request.topKeys === 0) return;
    const summary = weightSummary(this.#rec, { weights, places }, { top: this.request.topKeys });
    keep("stats", summary.stats);
    keep("top_keys", summary.topKeys);
    keep("top_weights", summary.topWeights);
  }
}

/** Bytes of an output, all of whose elements have four. */
export function outputBytes({ shape }: AttentionOutput): number {
  return numel(shape) * 4;
}

/** Some heads and rows of `[H, R, N]`, the first `length` elements of each. */
function cutRows(
  bytes: ArrayBuffer,
  [, allRows = 1, width = 1]: Shape,
  { heads, rows, length }: { heads: readonly number[]; rows: readonly number[]; length: number },
): ArrayBuffer {
  const from = new Uint32Array(bytes);
  const to = new Uint32Array(heads.length * rows.length * length);
  heads.forEach((head, i) => {
    rows.forEach((row, j) => {
      const at = (head * allRows + row) * width;
      to.set(from.subarray(at, at + length), (i * rows.length + j) * length);
    });
  });
  return to.buffer;
}
