import { HeedError } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { activation } from "../ops/activation.ts";
import { adamwStep, countStep } from "../ops/adamw.ts";
import { add } from "../ops/add.ts";
import { maskedSoftmax, qkScores, weightedSum } from "../ops/attention_unfused.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { embedding } from "../ops/embedding.ts";
import { globalNorm } from "../ops/global_norm.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import type { Value } from "../ops/op.ts";
import { gradients } from "../program/autodiff.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";

/** A run to repeat: parameters by name, batches, and how to step. Linear weights are `[out, in]`. */
export interface TrainingRun {
  readonly heads: number;
  readonly steps: number;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** Global norm that gradients are clipped to; 0 clips nothing. */
  readonly clip: number;
  readonly parameters: ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array }>;
  /** `[steps, B, T + 1]`: a decoder reads the first T and predicts the last T. */
  readonly tokens?: Batches;
  /** `[steps, B, S]` and `[steps, B, T + 1]`: an encoder–decoder reads source and the target's first T. */
  readonly source?: Batches;
  readonly target?: Batches;
}

/** Ids of all steps: `[steps, B, length]`. */
interface Batches {
  readonly shape: Shape;
  readonly data: Int32Array;
}

/** What a run came to. */
export interface TrainingRunResult {
  /** The loss of each step, before its update. */
  readonly losses: Float32Array;
  readonly parameters: ReadonlyMap<string, Float32Array>;
  /** The kernels of a step, each once. */
  readonly kernels: readonly string[];
}

const LAYER_NORM_EPS = 1e-5;

/** The values of one step while it is recorded. */
class RunRecord {
  readonly rec = new ProgramRecorder("training run");
  readonly trained = new Map<string, Value>();
  readonly #heads: number;
  readonly #batch: number;

  constructor(run: TrainingRun, tensors: ReadonlyMap<string, Tensor>, batch: number) {
    this.#heads = run.heads;
    this.#batch = batch;
    for (const [name, tensor] of tensors) this.trained.set(name, this.rec.state(tensor, name));
  }

  param(name: string): Value {
    const value = this.trained.get(name);
    if (!value) throw badRun(`the parameter ${name} is needed`, [...this.trained.keys()].join(", "));
    return value;
  }

  /** Rows of tokens plus their learned positions: `[B·T] → [B·T, C]`. */
  embed(table: string, tokens: Value, positions: Value): Value {
    return add(
      this.rec,
      embedding(this.rec, tokens, this.param(table)),
      embedding(this.rec, positions, this.param("pos")),
    );
  }

  norm(name: string, x: Value): Value {
    return layerNorm(this.rec, x, this.param(`${name}.g`), this.trained.get(`${name}.b`), { eps: LAYER_NORM_EPS });
  }

  /** Without a bias where the run has none. */
  linear(name: string, x: Value): Value {
    return linear(this.rec, x, this.param(`${name}.w`), { bias: this.trained.get(`${name}.b`) });
  }

  /** Attention of the rows of `x` over the rows of `memory`, each head on its share of the width. */
  attend(name: string, x: Value, memory: Value, causal: boolean): Value {
    const { rec } = this;
    const [q, k, v] = [this.linear(`${name}.q`, x), this.linear(`${name}.k`, memory), this.linear(`${name}.v`, memory)];
    const layout = {
      batch: this.#batch,
      heads: this.#heads,
      kvHeads: this.#heads,
      headDim: (q.shape[1] ?? 0) / this.#heads,
      queryLength: (x.shape[0] ?? 0) / this.#batch,
      keyLength: (memory.shape[0] ?? 0) / this.#batch,
      layout: "rows",
    } as const;
    const probs = maskedSoftmax(rec, qkScores(rec, { q, k }, layout), { causal });
    return this.linear(`${name}.o`, weightedSum(rec, { probs, v }, layout));
  }

  feedForward(name: string, x: Value): Value {
    return this.linear(`${name}.down`, activation(this.rec, this.linear(`${name}.up`, x), "gelu"));
  }

  /** Names `prefix`, `prefix0`, `prefix1`, … of the layers that the parameters speak of, in order. */
  layers(prefix: string): string[] {
    const found = [...this.trained.keys()].map((name) => new RegExp(`^(${prefix}\\d*)\\.`).exec(name)?.[1]);
    const number = (name: string) => Number(name.slice(prefix.length) || 0);
    return [...new Set(found.filter((name): name is string => name !== undefined))].sort(
      (a, b) => number(a) - number(b),
    );
  }
}

/** Pre-norm GPT: tokens `[B·T]` → logits `[B·T, V]`, by the embedding where the run has no `out`. */
function recordDecoder(r: RunRecord, tokens: Value, positions: Value): Value {
  let x = r.embed("tok", tokens, positions);
  for (const block of r.layers("block")) {
    const normed = r.norm(`${block}.ln1`, x);
    x = add(r.rec, x, r.attend(`${block}.self`, normed, normed, true));
    x = add(r.rec, x, r.feedForward(block, r.norm(`${block}.ln2`, x)));
  }
  const normed = r.norm("lnf", x);
  return r.trained.has("out.w") ? r.linear("out", normed) : linear(r.rec, normed, r.param("tok"));
}

/** Post-norm Transformer (Vaswani et al. 2017, §3.1): source and target rows → logits of the target rows. */
function recordEncoderDecoder(
  r: RunRecord,
  source: Value,
  sourcePositions: Value,
  target: Value,
  targetPositions: Value,
): Value {
  const { rec } = r;
  let x = r.embed("src", source, sourcePositions);
  for (const enc of r.layers("enc")) {
    x = r.norm(`${enc}.ln1`, add(rec, x, r.attend(`${enc}.self`, x, x, false)));
    x = r.norm(`${enc}.ln2`, add(rec, x, r.feedForward(enc, x)));
  }
  let y = r.embed("tgt", target, targetPositions);
  for (const dec of r.layers("dec")) {
    y = r.norm(`${dec}.ln1`, add(rec, y, r.attend(`${dec}.self`, y, y, true)));
    y = r.norm(`${dec}.ln2`, add(rec, y, r.attend(`${dec}.cross`, y, x, false)));
    y = r.norm(`${dec}.ln3`, add(rec, y, r.feedForward(dec, y)));
  }
  return r.linear("out", y);
}

/**
 * The batches whose tokens are predicted. Throws `BAD_FILE` where they, or the source's, are too few or not the shape of a run, and for
 * ids and lengths that no embedding has.
 */
function checkBatches({ tokens, source, target, steps, heads, parameters }: TrainingRun): Batches {
  const predicted = tokens ?? target;
  const [available = 0, batch = 0, next = 0, ...more] = predicted?.shape ?? [];
  if (!predicted || available < steps || steps < 1 || batch < 1 || next < 2 || more.length > 0) {
    const got = predicted ? `[${predicted.shape.join(", ")}]` : "none";
    throw badRun(`tokens or target must be [steps, B, T + 1] with at least ${steps} steps`, got);
  }
  const [sources, together, , ...deeper] = source?.shape ?? [available, batch, 0];
  if (source && (sources !== available || together !== batch || source.shape.length !== 3 || deeper.length > 0)) {
    throw badRun(`source must be [${available}, ${batch}, S] beside such a target`, `[${source.shape.join(", ")}]`);
  }
  const read: readonly (readonly [string, Batches])[] = source
    ? [
        ["src", source],
        ["tgt", predicted],
      ]
    : [["tok", predicted]];
  const positions = parameters.get("pos")?.shape[0] ?? 0;
  for (const [table, { data, shape }] of read) {
    const [rows = 0, width = 0] = parameters.get(table)?.shape ?? [];
    if (width % heads !== 0) throw badRun(`the width of ${table} must be a multiple of H = ${heads}`, `${width}`);
    const strange = data.find((id) => id < 0 || id >= rows);
    if (strange !== undefined) throw badRun(`ids must be rows of ${table}, of which there are ${rows}`, `${strange}`);
    const length = (shape[2] ?? 0) - (table === "src" ? 0 : 1);
    if (length > positions) throw badRun(`pos must have a row for each of ${length} positions`, `${positions}`);
  }
  return predicted;
}

function badRun(rule: string, got: string): HeedError {
  return new HeedError("BAD_FILE", `training run: ${rule}; got ${got}.`);
}

/** Repeats a run on the GPU: forward pass, loss, gradients, clipping and AdamW are one Program, replayed once a step. */
export async function repeatTraining(
  device: Device,
  run: TrainingRun,
  options: { readonly signal?: AbortSignal } = {},
): Promise<TrainingRunResult> {
  const made: Tensor[] = [];
  const own = (tensor: Tensor): Tensor => {
    made.push(tensor);
    return tensor;
  };
  try {
    const tensors = new Map(
      [...run.parameters].map(([name, { shape, data }]) => [name, own(Tensor.from(device, name, shape, "f32", data))]),
    );
    const predicted = checkBatches(run);
    const [, batch = 0, next = 0] = predicted.shape;
    const rec = recordStep(run, tensors, batch, next - 1, (shape, dtype) =>
      own(Tensor.create(device, "moment", shape, dtype)),
    );
    const planned = await plan(device, rec);
    try {
      const losses = new Float32Array(run.steps);
      planned.write("learning_rate", new Float32Array([run.learningRate]));
      for (const name of ["positions", "source_positions"]) {
        const value = rec.inputs.get(name);
        const length = (value?.shape[0] ?? 0) / batch;
        if (value)
          planned.write(
            name,
            Uint32Array.from({ length: batch * length }, (_, i) => i % length),
          );
      }
      for (let step = 0; step < run.steps; step++) {
        const rows = rowsOf(predicted, step, batch, next);
        planned.write("tokens", Uint32Array.from(rows.flatMap((row) => [...row.subarray(0, -1)])));
        planned.write("targets", Int32Array.from(rows.flatMap((row) => [...row.subarray(1)])));
        if (run.source) {
          planned.write(
            "source",
            Uint32Array.from(rowsOf(run.source, step, batch, run.source.shape[2] ?? 0).flatMap((row) => [...row])),
          );
        }
        await planned.run({}, options);
        losses[step] = new Float32Array(await planned.readOutput("loss"))[0] ?? Number.NaN;
      }
      const parameters = new Map<string, Float32Array>();
      for (const [name, tensor] of tensors) parameters.set(name, new Float32Array(await tensor.read()));
      return { losses, parameters, kernels: [...new Set(planned.dispatches.map((d) => d.kernel))] };
    } finally {
      planned.dispose();
    }
  } finally {
    for (const tensor of made) tensor.dispose();
  }
}

function rowsOf({ data }: Batches, step: number, batch: number, length: number): Int32Array[] {
  return Array.from({ length: batch }, (_, b) =>
    data.subarray((step * batch + b) * length, (step * batch + b + 1) * length),
  );
}

function recordStep(
  run: TrainingRun,
  tensors: ReadonlyMap<string, Tensor>,
  batch: number,
  length: number,
  create: (shape: Shape, dtype: "f32" | "u32") => Tensor,
): ProgramRecorder {
  const r = new RunRecord(run, tensors, batch);
  const { rec } = r;
  const rows = (name: string, n: number) => rec.input(name, [batch * n], "u32");
  const [tokens, positions] = [rows("tokens", length), rows("positions", length)];
  const targets = rec.input("targets", [batch * length], "i32");
  const lr = rec.input("learning_rate", [1], "f32");
  const sourceLength = run.source?.shape[2];
  const logits =
    sourceLength === undefined
      ? recordDecoder(r, tokens, positions)
      : recordEncoderDecoder(
          r,
          rows("source", sourceLength),
          rows("source_positions", sourceLength),
          tokens,
          positions,
        );
  const loss = rec.output("loss", crossEntropy(rec, logits, targets));
  const trained = [...r.trained.values()];
  const grads = gradients(rec, loss, trained);
  const norm = globalNorm(rec, grads);
  const step = rec.state(create([1], "u32"), "step");
  const { beta1, beta2, eps, weightDecay, clip: maxNorm } = run;
  trained.forEach((param, i) => {
    const [m, v] = [rec.state(create(param.shape, "f32")), rec.state(create(param.shape, "f32"))];
    adamwStep(
      rec,
      { param, grad: grads[i] as Value, m, v, norm, lr, step },
      { beta1, beta2, eps, weightDecay, maxNorm },
    );
  });
  countStep(rec, step);
  return rec;
}
