import type { numpy as Numpy } from "@jax-js/jax";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import { addIteratorHelpers } from "../iterator_helpers.ts";
import { type BenchData, type BenchShape, type Contender, exchangeHeads, type Runner } from "./contender.ts";

type Arr = Numpy.Array;

/**
 * jax-js under `jit`. "library": its own `nn.dotProductAttention` on `[B, T, H, D]`; "heads": the same formula with `einsum`
 * on `[B, Hkv, H/Hkv · T, D]`, in which no key is repeated; not causal then, but for T = 1.
 */
export async function jaxContender(form: "library" | "heads"): Promise<Contender> {
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: await nodeGpu(), userAgent: "node", hardwareConcurrency: 2 },
    configurable: true,
  });
  addIteratorHelpers();
  const { init, defaultDevice, numpy: np, nn, jit, grad } = await import("@jax-js/jax");
  await init("webgpu");
  defaultDevice("webgpu");

  const attend = ({ H, Hkv, T, S, D, causal, B }: BenchShape) => {
    const isMasked = causal && T > 1;
    if (form === "library") return (q: Arr, k: Arr, v: Arr) => nn.dotProductAttention(q, k, v, { isCausal: isMasked });
    const rows = (H / Hkv) * T;
    return (q: Arr, k: Arr, v: Arr) => {
      const scores = np.einsum("bhtd,bhsd->bhts", q.reshape([B, Hkv, rows, D]), k).mul(1 / Math.sqrt(D));
      const kept = isMasked ? np.where(np.tri(T, S, 0, { dtype: np.bool }), scores, -Infinity) : scores;
      return np.einsum("bhts,bhsd->bhtd", nn.softmax(kept, -1), v).reshape([B, H, T, D]);
    };
  };

  const prepare = async (shape: BenchShape, data: BenchData): Promise<Runner | undefined> => {
    const { B, H, Hkv, T, S, D, causal, window, backward } = shape;
    if (window !== undefined || (form === "heads" && causal && T > 1 && H !== Hkv)) return undefined;
    const upload = (x: Float32Array, heads: number, length: number) =>
      form === "library"
        ? np.array(exchangeHeads(x, B, heads, length, D)).reshape([B, length, heads, D])
        : np.array(x.slice()).reshape([B, heads, length, D]);
    const [q, k, v, dout] = [
      upload(data.q, H, T),
      upload(data.k, Hkv, S),
      upload(data.v, Hkv, S),
      upload(data.dout, H, T),
    ];
    const layout = form === "library" ? "bthd" : "bhtd";
    const forward = jit(attend(shape));
    const loss = (x: { q: Arr; k: Arr; v: Arr }, g: Arr) => attend(shape)(x.q, x.k, x.v).mul(g).sum();
    const gradient = jit(grad(loss));
    const all = [q, k, v, dout];
    return {
      layout,
      async run() {
        const results = backward
          ? Object.values(gradient({ q: q.ref, k: k.ref, v: v.ref }, dout.ref) as Record<string, Arr>)
          : [forward(q.ref, k.ref, v.ref)];
        return Promise.all(results.map(async (r) => (await r.data()) as Float32Array));
      },
      dispose() {
        for (const a of all) a.dispose();
        forward.dispose();
        gradient.dispose();
      },
    };
  };
  return { name: form === "library" ? "jax-js 0.1.25" : "jax-js einsum", prepare, dispose() {} };
}
