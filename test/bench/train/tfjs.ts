import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import type * as Tf from "@tensorflow/tfjs-core";
import { build } from "vite";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import type { SeededTensor, Trainee, TrainSizes } from "./contender.ts";

/**
 * The core is published without its gradients, and the modules that hold them with imports that Node does not resolve: they are
 * bundled first. They register themselves in a table that all copies of the core share.
 */
async function registerGradients(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "heed-bench-tfjs-"));
  try {
    const dist = dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-core"));
    const entry = join(folder, "entry.mjs");
    const parts = ["register_all_gradients.js", "public/chained_ops/register_all_chained_ops.js"];
    writeFileSync(entry, parts.map((part) => `import ${JSON.stringify(join(dist, part))};\n`).join(""));
    const output = { entryFileNames: "gradients.mjs" };
    await build({
      configFile: false,
      logLevel: "error",
      root: folder,
      build: {
        outDir: folder,
        emptyOutDir: false,
        minify: false,
        lib: { entry, formats: ["es"] },
        rolldownOptions: { output },
      },
    });
    await import(/* @vite-ignore */ pathToFileURL(join(folder, "gradients.mjs")).href);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The GPT in tfjs's own functions on its WebGPU backend, with its gradients and its `SGDOptimizer`. */
export async function tfjsTrainee(sizes: TrainSizes, weights: ReadonlyMap<string, SeededTensor>): Promise<Trainee> {
  Object.defineProperty(globalThis, "navigator", {
    value: { gpu: await nodeGpu(), userAgent: "node", hardwareConcurrency: 2 },
    configurable: true,
  });
  const tf = await import("@tensorflow/tfjs-core");
  await registerGradients();
  await import("@tensorflow/tfjs-backend-webgpu");
  await tf.setBackend("webgpu");
  await tf.ready();
  const { layers, heads, width: C, batch: B, length: T, vocabulary: V, learningRate } = sizes;
  const D = C / heads;
  const variables = new Map<string, Tf.Variable>();
  for (const [name, { shape, data }] of weights) {
    variables.set(name, tf.variable(tf.tensor(data, [...shape]), true, name));
  }
  const w = (name: string) => variables.get(name) as Tf.Variable;
  const hidden = Float32Array.from({ length: T * T }, (_, i) => (i % T <= Math.floor(i / T) ? 0 : -1e30));
  const mask = tf.tensor(hidden, [1, 1, T, T]);

  const norm = (x: Tf.Tensor, name: string) => {
    const { mean, variance } = tf.moments(x, -1, true);
    const standard = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5)));
    return tf.add(tf.mul(standard, w(`${name}.weight`)), w(`${name}.bias`));
  };
  const layer = (x: Tf.Tensor, name: string) =>
    tf.add(tf.matMul(x as Tf.Tensor2D, w(`${name}.weight`) as Tf.Tensor as Tf.Tensor2D), w(`${name}.bias`));
  const gelu = (x: Tf.Tensor) => {
    const inner = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.mul(x, x)))));
    return tf.mul(tf.mul(0.5, x), tf.add(1, tf.tanh(inner)));
  };
  const lossOf = (tokens: Tf.Tensor1D, targets: Tf.Tensor): Tf.Scalar => {
    const embedded = tf.reshape(tf.gather(w("wte.weight"), tokens), [B, T, C]);
    let x: Tf.Tensor = tf.reshape(tf.add(embedded, w("wpe.weight")), [B * T, C]);
    for (let i = 0; i < layers; i++) {
      const qkv = layer(norm(x, `h.${i}.ln_1`), `h.${i}.attn.c_attn`);
      const [q, k, v] = tf
        .split(qkv, 3, 1)
        .map((part) => tf.transpose(tf.reshape(part, [B, T, heads, D]), [0, 2, 1, 3])) as [
        Tf.Tensor,
        Tf.Tensor,
        Tf.Tensor,
      ];
      const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), D ** -0.5), mask);
      const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]), [B * T, C]);
      x = tf.add(x, layer(mixed, `h.${i}.attn.c_proj`));
      x = tf.add(x, layer(gelu(layer(norm(x, `h.${i}.ln_2`), `h.${i}.mlp.c_fc`)), `h.${i}.mlp.c_proj`));
    }
    const table = w("wte.weight") as Tf.Tensor as Tf.Tensor2D;
    const logits = tf.matMul(norm(x, "ln_f") as Tf.Tensor2D, table, false, true);
    const picked = tf.sum(tf.mul(tf.logSoftmax(logits), targets));
    return tf.mul(picked, -1 / (B * T)) as Tf.Scalar;
  };
  return {
    name: "tfjs 4.22.0 WebGPU",
    async step(tokens, targets) {
      const loss = tf.tidy(() => {
        const ids = tf.tensor1d(Int32Array.from(tokens), "int32");
        const wanted = tf.oneHot(tf.tensor1d(targets, "int32"), V);
        const { value, grads } = tf.variableGrads(() => lossOf(ids, wanted));
        for (const [name, grad] of Object.entries(grads)) {
          const variable = w(name);
          variable.assign(tf.sub(variable, tf.mul(grad, learningRate)));
        }
        return value;
      });
      const [value = Number.NaN] = await loss.data();
      loss.dispose();
      // The loss is there before the update; the step is over when a weight is.
      await w("ln_f.bias").data();
      return value;
    },
    async dispose() {
      tf.dispose([mask, ...variables.values()]);
    },
  };
}
