import type * as Tf from "@tensorflow/tfjs-core";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import type { BenchData, BenchShape, Contender, Runner } from "./contender.ts";

type Tensor4 = Tf.Tensor4D;

/** tfjs's WebGPU backend: `matMul`, `softmax`, `matMul`; query heads that share a key head are rows of one product. */
export async function tfjsContender(): Promise<Contender> {
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: await nodeGpu(), userAgent: "node", hardwareConcurrency: 2 },
    configurable: true,
  });
  const tf = await import("@tensorflow/tfjs-core");
  await import("@tensorflow/tfjs-backend-webgpu");
  await tf.setBackend("webgpu");
  await tf.ready();

  const prepare = async (shape: BenchShape, data: BenchData): Promise<Runner | undefined> => {
    const { B, H, Hkv, T, S, D, causal, window, backward } = shape;
    const isMasked = causal && T > 1;
    if (window !== undefined || (isMasked && H !== Hkv)) return undefined;
    const rows = (H / Hkv) * T;
    const q = tf.tensor4d(data.q, [B, Hkv, rows, D]);
    const k = tf.tensor4d(data.k, [B, Hkv, S, D]);
    const v = tf.tensor4d(data.v, [B, Hkv, S, D]);
    const dout = tf.tensor4d(data.dout, [B, Hkv, rows, D]);
    const values = Float32Array.from({ length: isMasked ? T * S : 1 }, (_, i) =>
      i % S <= Math.floor(i / S) + S - T || !isMasked ? 0 : -1e30,
    );
    const mask = tf.tensor(values, isMasked ? [1, 1, T, S] : [1]);
    const scale = 1 / Math.sqrt(D);
    const probsOf = (): Tensor4 => {
      const scores = tf.mul(tf.matMul(q, k, false, true), scale);
      return tf.softmax(isMasked ? tf.add(scores, mask) : scores) as Tensor4;
    };
    // Its core has no gradients without the whole library: these are the same products.
    const gradients = (): Tf.Tensor[] => {
      const probs = probsOf();
      const dprobs = tf.matMul(dout, v, false, true);
      const weighted = tf.mul(dprobs, probs);
      const dscores = tf.mul(tf.sub(weighted, tf.mul(probs, tf.sum(weighted, -1, true))), scale);
      return [tf.matMul(dscores, k), tf.matMul(dscores, q, true), tf.matMul(probs, dout, true)];
    };
    return {
      async run() {
        const results = tf.tidy(() => (backward ? gradients() : [tf.matMul(probsOf(), v)]));
        const numbers = await Promise.all(results.map(async (r) => (await r.data()) as Float32Array));
        tf.dispose(results);
        return numbers;
      },
      dispose: () => tf.dispose([q, k, v, dout, mask]),
    };
  };
  return { name: "tfjs 4.22.0 WebGPU", prepare, dispose() {} };
}
