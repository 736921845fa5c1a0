import { HeedError, isHeedError } from "../core/errors.ts";
import { readJsonObject } from "../core/json.ts";
import type { Shape } from "../core/shape.ts";
import type { Source } from "../core/source.ts";
import { readSafetensorsHeader } from "../formats/safetensors.ts";
import { encodeSafetensors, type TensorToWrite } from "../formats/safetensors_write.ts";
import { streamTensor } from "../formats/stream_tensor.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Trainer, TrainerState } from "./trainer.ts";
import type { TrainingStep } from "./training_step.ts";

/** Files of a checkpoint beside those of the model. */
const STATE = "trainer_state.json";
const MOMENTS = "optimizer.safetensors";

/** The optimiser's moments, the best weights where they are kept, RNG and data position, as files of a checkpoint. */
export async function encodeState(
  step: TrainingStep,
  trainer: Trainer,
): Promise<[name: string, content: readonly Uint8Array[] | string][]> {
  return [
    [MOMENTS, await encodeTensors(step.optimizer.moments)],
    ...(await trainer.encodeBest()),
    [STATE, `${JSON.stringify(trainer.state(), null, 1)}\n`],
  ];
}

/** Reads a checkpoint with `read`; says of what does not fit, in the error, what may be wrong with the checkpoint. */
export async function readingCheckpoint<T>(from: Source, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (!isHeedError(cause, "BAD_FILE")) throw cause;
    throw new HeedError(
      "BAD_FILE",
      `train: the checkpoint ${from.description} must be whole and of this run; got "${cause.message}" If model, tokenizer or optimiser were changed, put them back; if it is damaged, remove its folder to go on from the one before it.`,
      { cause },
    );
  }
}

/** Goes on from what {@link encodeState} gave. Throws `BAD_FILE` for files that are not of this training. */
export async function restoreState(from: Source, step: TrainingStep, trainer: Trainer): Promise<void> {
  trainer.restore(checkState(await readJsonObject(from, STATE), from));
  await restoreTensors(from, MOMENTS, step.optimizer.moments);
  await trainer.restoreBest(from);
}

/** How {@link encodeTensors} writes. */
interface EncodeOptions {
  /** Gives a tensor's bytes. Default: those on the GPU. */
  readonly read?: (tensor: Tensor) => Promise<ArrayBuffer>;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Tensors in f32 by their names, as a safetensors file. */
export async function encodeTensors(
  tensors: Iterable<readonly [string, Tensor]>,
  { read = (tensor) => tensor.read(), metadata }: EncodeOptions = {},
): Promise<Uint8Array[]> {
  const written = new Map<string, TensorToWrite>();
  for (const [name, tensor] of tensors) {
    written.set(name, { format: "f32", shape: tensor.shape, data: new Uint8Array(await read(tensor)) });
  }
  return encodeSafetensors(written, metadata);
}

/** What numbers in f32 are read into: a tensor, or host memory. */
export interface F32Target {
  readonly shape: Shape;
  write(offsetBytes: number, data: Uint8Array): void;
}

/** Writes the tensors of a safetensors file into those there are; returns its metadata. Throws `BAD_FILE` where one is missing or has another shape. */
export async function restoreTensors(
  from: Source,
  fileName: string,
  tensors: Iterable<readonly [string, F32Target]>,
): Promise<Readonly<Record<string, string>>> {
  const file = await from.open(fileName);
  if (!file) throw new HeedError("BAD_FILE", `train: ${from.description} must hold ${fileName}; got none.`);
  const { tensors: entries, metadata } = await readSafetensorsHeader(file);
  for (const [name, tensor] of tensors) {
    const entry = entries.get(name);
    if (!entry || entry.shape.join() !== tensor.shape.join()) {
      throw new HeedError(
        "BAD_FILE",
        `train: ${fileName} in ${from.description} must hold ${name}; got ${entry ? "another shape" : "none"}. The model or the options of the run were changed.`,
      );
    }
    for await (const { elementStart, data } of streamTensor(entry, "f32", {})) tensor.write(4 * elementStart, data);
  }
  return metadata;
}

function checkState(value: unknown, from: Source): TrainerState {
  const state = value as Partial<TrainerState> | undefined;
  const whole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  const { scale, good } = state?.lossScale ?? { scale: 1, good: 0 };
  const isScale = typeof scale === "number" && scale >= 1 && Number.isInteger(Math.log2(scale)) && whole(good);
  const isPending = state?.pending === undefined || state.pending?.step === state.stepsDone;
  const isBest = state?.best === null || (whole(state?.best?.step) && Number.isFinite(state?.best?.loss));
  if (state && whole(state.stepsDone) && whole(state.stale) && "data" in state && isScale && isPending && isBest)
    return state as TrainerState;
  throw new HeedError(
    "BAD_FILE",
    `train: ${STATE} in ${from.description} must hold a trainer's state; got another file.`,
  );
}
