import { cpus, loadavg } from "node:os";
import { benchOptions, chosen } from "./options.ts";
import { seededBatch, seededWeights, type Trainee, type TrainSizes } from "./train/contender.ts";
import { heedTrainee } from "./train/heed.ts";
import { jaxTrainee } from "./train/jax_js.ts";
import { tfjsTrainee } from "./train/tfjs.ts";

const SIZES: TrainSizes = {
  layers: 6,
  heads: 8,
  width: 256,
  batch: 8,
  length: 128,
  vocabulary: 1024,
  learningRate: 0.05,
};

/** Largest difference of a peer's loss to Heed's, as a share. */
const LOSS_TOLERANCE = 1e-5;

const PEERS = { "jax-js": jaxTrainee, tfjs: tfjsTrainee } as const;

/**
 * Steps of one GPT in Heed and its peers, in turns, on the same seeded weights and batches, and the share of time of each of
 * Heed's kernels. Arguments: `steps=3 peers=jax-js,tfjs`, or `peers=none`. The first step of each compiles and is not timed.
 */
export default async function bench(args: string[]): Promise<void> {
  const options = benchOptions(args, ["steps", "peers"]);
  const steps = Number(options.steps ?? 3);
  const peers = options.peers === "none" ? [] : chosen(options.peers, ["jax-js", "tfjs"]);
  const weights = seededWeights(SIZES);
  const trainees: Trainee[] = [await heedTrainee(SIZES, weights)];
  for (const name of peers) trainees.push(await PEERS[name](SIZES, weights));
  console.log(
    `GPT ${SIZES.layers} × ${SIZES.width}, T=${SIZES.length}, B=${SIZES.batch}, V=${SIZES.vocabulary}, tied, f32`,
  );
  console.log(
    `${cpus().length} cores, load ${loadavg()
      .map((l) => l.toFixed(1))
      .join(" ")}`,
  );
  const times = new Map<Trainee, number[]>(trainees.map((t) => [t, []]));
  for (let step = 0; step <= steps; step++) {
    const { tokens, targets } = seededBatch(SIZES, step);
    let expected: number | undefined;
    for (const trainee of trainees) {
      const started = performance.now();
      const loss = await trainee.step(tokens, targets);
      const elapsedMs = performance.now() - started;
      expected ??= loss;
      const off = Math.abs(loss - expected) / expected;
      if (off > LOSS_TOLERANCE) process.exitCode = 1;
      if (step > 0) times.get(trainee)?.push(elapsedMs);
      const remark = off > LOSS_TOLERANCE ? `  WRONG: off by ${off.toExponential(1)}` : "";
      console.log(
        `step ${step}  ${trainee.name.padEnd(20)} loss ${loss.toFixed(6)}  ${elapsedMs.toFixed(0)} ms${remark}`,
      );
    }
  }
  console.log(
    `load ${loadavg()
      .map((l) => l.toFixed(1))
      .join(" ")}`,
  );
  const median = (all: readonly number[]) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
  for (const [{ name }, all] of times) {
    console.log(
      `${name.padEnd(20)} median ${median(all).toFixed(0)} ms, minimum ${Math.min(...all).toFixed(0)} ms a step`,
    );
  }
  console.log(await trainees[0]?.profile?.());
  for (const trainee of trainees) await trainee.dispose();
}
