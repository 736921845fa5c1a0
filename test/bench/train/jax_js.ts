import type { numpy as Numpy } from "@jax-js/jax";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import { addIteratorHelpers } from "../iterator_helpers.ts";
import type { SeededTensor, Trainee, TrainSizes } from "./contender.ts";

type Arr = Numpy.Array;
type Weights = Record<string, Arr>;

/** The GPT in jax-js's own functions: loss, gradients and update under one `jit`; tokens as one-hot rows, which have a gradient. */
export async function jaxTrainee(sizes: TrainSizes, weights: ReadonlyMap<string, SeededTensor>): Promise<Trainee> {
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: await nodeGpu(), userAgent: "node", hardwareConcurrency: 2 },
    configurable: true,
  });
  addIteratorHelpers();
  const { init, defaultDevice, numpy: np, nn, jit, valueAndGrad, tree } = await import("@jax-js/jax");
  await init("webgpu");
  defaultDevice("webgpu");
  const { layers, heads, width: C, batch: B, length: T, vocabulary: V, learningRate } = sizes;
  const D = C / heads;

  const forward = (given: Weights, x: Arr, y: Arr): Arr => {
    const w = (name: string) => given[name]!.ref;
    const norm = (a: Arr, name: string) =>
      nn
        .standardize(a, -1, { epsilon: 1e-5 })
        .mul(w(`${name}.weight`))
        .add(w(`${name}.bias`));
    const layer = (a: Arr, name: string) => np.dot(a, w(`${name}.weight`)).add(w(`${name}.bias`));
    let h = np.dot(x, w("wte.weight")).reshape([B, T, C]).add(w("wpe.weight")); // [B, T, C]
    for (let i = 0; i < layers; i++) {
      const qkv = layer(norm(h.ref, `h.${i}.ln_1`).reshape([B * T, C]), `h.${i}.attn.c_attn`); // [N, 3C]
      const [q, k, v] = [0, 1, 2].map((p) => qkv.ref.slice([], [p * C, (p + 1) * C]).reshape([B, T, heads, D])) as [
        Arr,
        Arr,
        Arr,
      ];
      qkv.dispose();
      const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([B * T, C]);
      h = h.add(layer(mixed, `h.${i}.attn.c_proj`).reshape([B, T, C]));
      const up = nn.gelu(layer(norm(h.ref, `h.${i}.ln_2`).reshape([B * T, C]), `h.${i}.mlp.c_fc`), {
        approximate: true,
      });
      h = h.add(layer(up, `h.${i}.mlp.c_proj`).reshape([B, T, C]));
    }
    const logits = np.dot(norm(h, "ln_f").reshape([B * T, C]), w("wte.weight").transpose()); // [N, V]
    for (const a of Object.values(given)) a.dispose();
    return nn
      .logSoftmax(logits, -1)
      .mul(y)
      .sum()
      .mul(-1 / (B * T));
  };
  const train = jit((given: Weights, x: Arr, y: Arr) => {
    const [loss, grads] = valueAndGrad(forward)(tree.ref(given), x, y) as [Arr, Weights];
    const next = Object.fromEntries(
      Object.entries(given).map(([name, a]) => [name, a.sub(grads[name]!.mul(learningRate))]),
    );
    return { loss, next };
  });
  let current: Weights = Object.fromEntries(
    [...weights].map(([name, { shape, data }]) => [name, np.array(data.slice()).reshape([...shape])]),
  );
  const oneHot = (ids: ArrayLike<number>) => nn.oneHot(np.array(Int32Array.from(ids), { dtype: np.int32 }), V);
  return {
    name: "jax-js 0.1.25",
    async step(tokens, targets) {
      const { loss, next } = train(current, oneHot(tokens), oneHot(targets)) as { loss: Arr; next: Weights };
      current = next;
      const [value = Number.NaN] = (await loss.data()) as Float32Array;
      // The loss is there before the update; the step is over when a weight is.
      await current["ln_f.bias"]!.ref.data();
      return value;
    },
    async dispose() {
      tree.dispose(current);
    },
  };
}
