import type { numpy as Numpy } from "@jax-js/jax";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import { readTestCheckpoint } from "../../support/safetensors.ts";
import { addIteratorHelpers } from "../iterator_helpers.ts";
import { type BenchModel, embed, type PeerSteps } from "./contender.ts";

type Arr = Numpy.Array;
type Cache = { k: Arr; v: Arr };
type Block = Record<string, Arr>;

/** Keys that the cache holds: of a fixed size, since growing arrays are compiled anew at every length. */
const CAPACITY = 160;

const BLOCK_TENSORS = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"].flatMap((n) => [
  `${n}.weight`,
  `${n}.bias`,
]);

/**
 * GPT-2 in jax-js's own functions: one `jit` a chunk length, weights as published, a cache of fixed capacity that is
 * updated by selection. The output matrix is given in two halves, because the library computes wrong values where an
 * array exceeds a binding.
 */
export async function jaxSteps(model: BenchModel): Promise<PeerSteps> {
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: await nodeGpu(), userAgent: "node", hardwareConcurrency: 2 },
    configurable: true,
  });
  addIteratorHelpers();
  const { init, defaultDevice, numpy: np, nn, jit, tree } = await import("@jax-js/jax");
  await init("webgpu");
  defaultDevice("webgpu");
  const { tensors } = readTestCheckpoint(model.folder);
  const { width, heads, layers, vocab } = model;
  const D = width / heads;
  const upload = (name: string) => {
    const { data, shape } = tensors.get(name)!;
    return np.array(data).reshape(shape);
  };
  const blocks: Block[] = Array.from({ length: layers }, (_, i) =>
    Object.fromEntries(BLOCK_TENSORS.map((n) => [n, upload(`h.${i}.${n}`)])),
  );
  const wte = tensors.get("wte.weight")!.data;
  const half = Math.ceil(vocab / 2);
  const head = [wte.subarray(0, half * width), wte.subarray(half * width)].map((d) =>
    np.array(d.slice()).reshape([d.length / width, width]),
  );
  const weights = { blocks, norm: { weight: upload("ln_f.weight"), bias: upload("ln_f.bias") }, head };

  const norm = (x: Arr, w: Arr, b: Arr) => nn.standardize(x, -1, { epsilon: model.normEps }).mul(w).add(b);
  const project = (x: Arr, block: Block, name: string) =>
    np.dot(x, block[`${name}.weight`]!).add(block[`${name}.bias`]!);
  // start [] i32; x [T, C] → the cache with T rows more, logits [V] of the last row.
  const step = (T: number) => (w: typeof weights, cache: Cache[], x: Arr, start: Arr) => {
    const keys = np.arange(CAPACITY).astype(np.int32);
    const place = keys.ref.reshape([CAPACITY, 1]);
    // [T, S]: row t sees keys up to start + t.
    const mask = keys.reshape([1, CAPACITY]).lessEqual(np.arange(T).astype(np.int32).reshape([T, 1]).add(start.ref));
    const fresh = place.ref
      .greaterEqual(start.ref)
      .mul(place.ref.less(start.ref.add(T)))
      .reshape([CAPACITY, 1, 1]);
    const next = cache.map(({ k, v }, i) => {
      const block = w.blocks[i]!;
      const qkv = project(norm(x.ref, block["ln_1.weight"]!, block["ln_1.bias"]!), block, "attn.c_attn");
      const [q, kNew, vNew] = [0, 1, 2].map((p) =>
        qkv.ref.slice([], [p * width, (p + 1) * width]).reshape([T, heads, D]),
      ) as [Arr, Arr, Arr];
      qkv.dispose();
      const put = (old: Arr, rows: Arr) =>
        T === 1 ? np.where(fresh.ref, rows, old) : np.concatenate([rows, old.slice([T, CAPACITY])], 0);
      const [kAll, vAll] = [put(k, kNew), put(v, vNew)];
      const mixed = nn.dotProductAttention(q, kAll.ref, vAll.ref, { mask: mask.ref }).reshape([T, width]);
      const middle = x.add(project(mixed, block, "attn.c_proj"));
      const up = nn.gelu(project(norm(middle.ref, block["ln_2.weight"]!, block["ln_2.bias"]!), block, "mlp.c_fc"), {
        approximate: true,
      });
      x = middle.add(project(up, block, "mlp.c_proj"));
      return { k: kAll, v: vAll };
    });
    for (const a of [mask, fresh, place, start]) a.dispose();
    const last = norm(x.slice([T - 1, T]), w.norm.weight, w.norm.bias);
    const logits = w.head.map((h) => np.dot(last.ref, h.transpose()));
    last.dispose();
    return { cache: next, logits };
  };
  const compiled = new Map<number, ReturnType<typeof jit<ReturnType<typeof step>>>>();
  const empty = () =>
    Array.from({ length: layers }, () => ({ k: np.zeros([CAPACITY, heads, D]), v: np.zeros([CAPACITY, heads, D]) }));
  let cache = empty();
  let position = 0;
  return {
    name: "jax-js 0.1.25",
    reset() {
      tree.dispose(cache);
      cache = empty();
      position = 0;
    },
    async append(ids) {
      const T = ids.length;
      const run = compiled.get(T) ?? jit(step(T));
      compiled.set(T, run);
      const x = np.array(embed(tensors, ids, position, width)).reshape([T, width]);
      const result = run(tree.ref(weights), cache, x, np.array([position], { dtype: np.int32 }).reshape([]));
      cache = result.cache as Cache[];
      position += T;
      const [a, b] = (await Promise.all((result.logits as Arr[]).map((l) => l.data()))) as [Float32Array, Float32Array];
      const logits = new Float32Array(vocab);
      logits.set(a);
      logits.set(b, a.length);
      return logits;
    },
    async dispose() {
      tree.dispose(cache);
      tree.dispose(weights);
    },
  };
}
