import { isHeedError } from "./core/errors.ts";
import { noAdapter, nodeGpu } from "./gpu/platform_node.ts";
import { folderTuneStore } from "./gpu/tune_store_node.ts";
import { openSource } from "./sources/open_source_node.ts";
import { createEngineWith, type Engine, type EngineOptions } from "./tasks/engine.ts";

/**
 * An engine on this machine's GPU through Dawn (the package `webgpu`), or on the caller's own device. Throws
 * `NO_WEBGPU`, `NO_ADAPTER` or `UNSUPPORTED`. `HEED_TUNE=0` in the environment turns measuring kernels off.
 *
 * @example
 * const engine = await createEngine();
 * const model = await engine.load("./folder");
 * for await (const piece of model.generate("Once upon a time")) process.stdout.write(piece);
 * await engine.dispose();
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const gpu = options.gpu ?? (options.device ? undefined : await nodeGpu());
  try {
    const autotune = options.autotune ?? (process.env["HEED_TUNE"] === "0" ? false : undefined);
    return await createEngineWith({ ...options, gpu, autotune }, openSource, async () => folderTuneStore());
  } catch (error) {
    // Here it is known which drivers were looked at.
    throw isHeedError(error, "NO_ADAPTER") ? noAdapter() : error;
  }
}

export { nodeGpu, requestNodeAdapter } from "./gpu/platform_node.ts";
export { openSource } from "./sources/open_source_node.ts";
export { shippedModel } from "./sources/shipped_node.ts";
export * from "./index.ts";
