import { normalGenerator, uniformGenerator } from "../../../src/train/initialise.ts";

/** Sizes of the GPT that is trained: pre-norm, learned positions, GELU (tanh), output tied to the embedding. */
export interface TrainSizes {
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
  readonly batch: number;
  readonly length: number;
  readonly vocabulary: number;
  /** Of plain gradient descent, which leaves the least to differ in. */
  readonly learningRate: number;
}

/** A tensor in the layout of a GPT-2 checkpoint. */
export interface SeededTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** One training program on seeded weights. */
export interface Trainee {
  readonly name: string;
  /** One whole step on a batch; resolves with the loss before the update, when the GPU is done. */
  step(tokens: Uint32Array<ArrayBuffer>, targets: Int32Array<ArrayBuffer>): Promise<number>;
  /** A table of the time in each kernel, where the program can tell. */
  profile?(): Promise<string>;
  dispose(): Promise<void>;
}

/** Weights from a seed, by their names in a GPT-2 checkpoint: matrices normal with deviation 0.02, gains 1, biases 0. */
export function seededWeights({ layers, width, vocabulary, length }: TrainSizes): Map<string, SeededTensor> {
  const normal = normalGenerator(1);
  const all = new Map<string, SeededTensor>();
  const matrix = (name: string, rows: number, columns: number) =>
    all.set(name, {
      shape: [rows, columns],
      data: Float32Array.from({ length: rows * columns }, () => 0.02 * normal()),
    });
  const vector = (name: string, size: number, value: number) =>
    all.set(name, { shape: [size], data: new Float32Array(size).fill(value) });
  const norm = (name: string) => {
    vector(`${name}.weight`, width, 1);
    vector(`${name}.bias`, width, 0);
  };
  const layer = (name: string, inputs: number, outputs: number) => {
    matrix(`${name}.weight`, inputs, outputs);
    vector(`${name}.bias`, outputs, 0);
  };
  matrix("wte.weight", vocabulary, width);
  matrix("wpe.weight", length, width);
  for (let i = 0; i < layers; i++) {
    norm(`h.${i}.ln_1`);
    layer(`h.${i}.attn.c_attn`, width, 3 * width);
    layer(`h.${i}.attn.c_proj`, width, width);
    norm(`h.${i}.ln_2`);
    layer(`h.${i}.mlp.c_fc`, width, 4 * width);
    layer(`h.${i}.mlp.c_proj`, 4 * width, width);
  }
  norm("ln_f");
  return all;
}

/** The tokens of a step and what follows each. */
export function seededBatch({ batch, length, vocabulary }: TrainSizes, step: number) {
  const uniform = uniformGenerator(100 + step);
  const draw = () => Math.floor(uniform() * vocabulary);
  const tokens = Uint32Array.from({ length: batch * length }, draw);
  return { tokens, targets: Int32Array.from({ length: batch * length }, draw) };
}
