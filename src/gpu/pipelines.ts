import { HeedError, invariant } from "../core/errors.ts";
import {
  type ComposedShader,
  composeShader,
  type KernelBinding,
  type KernelVariant,
  type ParamField,
  variantKey,
} from "./compose.ts";
import type { Device } from "./device.ts";

/** A compiled kernel variant: what a dispatch needs to bind and run it. */
export interface Pipeline {
  readonly label: string;
  readonly compute: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly bindings: readonly KernelBinding[];
  readonly params: readonly ParamField[];
}

/** Compiles each variant once per device, asynchronously and in parallel, with explicit layouts. */
export class PipelineCache {
  readonly #device: Device;
  readonly #pipelines = new Map<string, Promise<Pipeline>>();

  constructor(device: Device) {
    this.#device = device;
  }

  get count(): number {
    return this.#pipelines.size;
  }

  get(variant: KernelVariant): Promise<Pipeline> {
    const key = variantKey(variant);
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(variant, key);
      this.#pipelines.set(key, pipeline);
      // What failed for want of memory may succeed later.
      pipeline.catch(() => this.#pipelines.delete(key));
    }
    return pipeline;
  }

  async #compile(variant: KernelVariant, label: string): Promise<Pipeline> {
    const raw = this.#device.raw;
    const composed = composeShader(variant);
    checkBindingCount(composed, label, raw.limits.maxStorageBuffersPerShaderStage);
    // A module that does not compile is reported below, with its file and line, and not as an uncaptured error.
    raw.pushErrorScope("validation");
    const module = raw.createShaderModule({ label, code: composed.code });
    const reported = raw.popErrorScope();
    const layout = raw.createBindGroupLayout({
      label,
      entries: composed.bindings.map((b) => ({
        binding: b.binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: b.access === "uniform" ? "uniform" : b.access === "read" ? "read-only-storage" : "storage" },
      })),
    });
    const descriptor: GPUComputePipelineDescriptor = {
      label,
      layout: raw.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main", constants: { ...variant.overrides } },
    };
    try {
      const compute = await this.#device.guard(raw.createComputePipelineAsync(descriptor));
      await this.#device.guard(reported);
      return { label, compute, layout, bindings: composed.bindings, params: composed.params };
    } catch (error) {
      if (error instanceof HeedError && error.code === "DEVICE_LOST") throw error;
      await this.#device.guard(reported);
      throw await this.#device.guard(compileError(module, composed, label, error));
    }
  }
}

function checkBindingCount(composed: ComposedShader, label: string, limit: number): void {
  const storage = composed.bindings.filter((b) => b.access !== "uniform").length;
  invariant(storage <= limit, `${label}: ${storage} storage bindings, the device has ${limit}`);
}

async function compileError(
  module: GPUShaderModule,
  composed: ComposedShader,
  label: string,
  cause: unknown,
): Promise<HeedError> {
  const info = await module.getCompilationInfo();
  const messages = info.messages
    .filter((m) => m.type === "error")
    .map((m) => {
      const at = composed.locate(m.lineNum);
      return `  shaders/${at.file}:${at.line}:${m.linePos}: ${m.message}`;
    });
  const detail =
    messages.length > 0 ? messages.join("\n") : `  ${cause instanceof Error ? cause.message : String(cause)}`;
  return new HeedError("INTERNAL", `kernel ${label} does not compile:\n${detail}`, { cause });
}
