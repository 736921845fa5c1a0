import type { Page } from "puppeteer-core";

/** A shader as a browser has compiled it. */
export interface CompiledShader {
  /** Kernel and variant. */
  readonly label: string;
  readonly code: string;
  readonly constants: Record<string, number>;
}

interface WatchedPage {
  compiledShaders: CompiledShader[];
}

/** Notes from now on what the page compiles; to be called again after each navigation. */
export async function watchShaders(page: Page): Promise<void> {
  await page.evaluate(() => {
    const compiledShaders: CompiledShader[] = [];
    Object.assign(globalThis, { compiledShaders });
    const codes = new WeakMap<GPUShaderModule, string>();
    const { createShaderModule, createComputePipelineAsync } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      const module = createShaderModule.call(this, descriptor);
      codes.set(module, descriptor.code);
      return module;
    };
    GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
      const pipeline = await createComputePipelineAsync.call(this, descriptor);
      const { label = "", compute } = descriptor;
      const constants = { ...compute.constants } as Record<string, number>;
      compiledShaders.push({ label, code: codes.get(compute.module) ?? "", constants });
      return pipeline;
    };
  });
}

/** Adds what the page has compiled without any feature, as tier core does, by label. */
export async function collectShaders(page: Page, into: Map<string, CompiledShader>): Promise<void> {
  const shaders = await page.evaluate(() => (globalThis as unknown as WatchedPage).compiledShaders);
  for (const shader of shaders) if (!/^\s*enable\s/m.test(shader.code)) into.set(shader.label, shader);
}

/** Compiles shaders on a device with WebGPU's default limits; resolves with a line for each that fails. */
export async function compileShaders(page: Page, shaders: readonly CompiledShader[]): Promise<string[]> {
  return page.evaluate(async (given) => {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) return ["there is no adapter"];
    const device = await adapter.requestDevice();
    const failures: string[] = [];
    for (const { label, code, constants } of given) {
      device.pushErrorScope("validation");
      const module = device.createShaderModule({ label, code });
      const compute = { module, entryPoint: "main", constants };
      const refused = await device.createComputePipelineAsync({ layout: "auto", compute }).then(
        () => undefined,
        (error: unknown) => String(error),
      );
      const fault = (await device.popErrorScope())?.message;
      if (refused ?? fault) failures.push(`${label}: ${fault ?? refused}`);
    }
    device.destroy();
    return failures;
  }, shaders);
}
