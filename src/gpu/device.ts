import { HeedError, isHeedError } from "../core/errors.ts";
import { checkOptionNames } from "../core/options.ts";
import type { KernelVariant } from "./compose.ts";
import { CompletionNudge } from "./completion_nudge.ts";
import { GentleWait } from "./gentle_wait.ts";
import { PipelineCache, type Pipeline } from "./pipelines.ts";
import { chooseTier, MEMORY_LIMITS, RAISED_LIMITS, type Tier, tierFeatures } from "./tiers.ts";

/** How {@link Device.request} finds a device. */
export interface RequestDeviceOptions {
  /** The WebGPU entry point; default `navigator.gpu`. In Node, `heed/node` passes Dawn's. */
  readonly gpu?: GPU;
  /** A device of the caller's own. It is used as it is and never destroyed by Heed. */
  readonly device?: GPUDevice;
  /** Use no more than this tier; default the highest that the adapter has. */
  readonly tier?: Tier;
  readonly powerPreference?: GPUPowerPreference;
  /**
   * Choose kernels and splits without regard to the number of rows, so that a row's result does not depend on the batch that it is
   * in, bit for bit. Costs speed where few rows would take other kernels. Default false. Without it the same call gives the
   * same bits too.
   */
  readonly deterministic?: boolean;
}

/** What kernels are chosen by. */
export interface GpuFacts {
  readonly tier: Tier;
  readonly subgroups: boolean;
  readonly f16: boolean;
  /** Smallest and largest subgroup; 0 without subgroups. */
  readonly subgroupMin: number;
  readonly subgroupMax: number;
  /** True on CPU implementations (lavapipe, SwiftShader), where barriers and workgroup memory are dear. */
  readonly software: boolean;
  readonly limits: GPUSupportedLimits;
  /** Set under `deterministic`: kernels are chosen as for so many rows, however many there are. */
  readonly fixedRows?: "few" | "many";
  /** Kernels that measurements on this device chose, by bucket. */
  readonly choices?: Readonly<Record<string, string>>;
}

/** What `adapter.info` says, as plain strings. */
export interface AdapterFacts {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
}

/**
 * A WebGPU device with what Heed adds: a tier, buffers counted to the byte, pipelines compiled once, and errors that
 * become typed. Everything else in Heed reaches the GPU through this class.
 */
export class Device {
  readonly raw: GPUDevice;
  /** What kernels are chosen by; {@link useChoices} replaces it. */
  facts: GpuFacts;
  readonly adapter: AdapterFacts;
  readonly timestamps: boolean;
  readonly #owned: boolean;
  readonly #pipelines: PipelineCache;
  readonly #buffers = new Set<GPUBuffer>();
  readonly #refused = new Set<string>();
  /** Rejects what {@link guard} waits for. A set, because races against one promise that never settles would pile up. */
  readonly #waiting = new Set<(error: HeedError) => void>();
  /** Told of every wait, where waiting needs help. */
  readonly #waiter: GentleWait | CompletionNudge | undefined;
  #bytes = 0;
  #peakBytes = 0;
  #created = 0;
  #fault: HeedError | undefined;
  #disposed = false;
  readonly #onError = (event: GPUUncapturedErrorEvent) => {
    this.#fault ??= fromGpuError(event.error, "device");
  };

  private constructor(raw: GPUDevice, owned: boolean, tier: Tier, adapter: AdapterFacts, deterministic: boolean) {
    this.raw = raw;
    this.#owned = owned;
    this.adapter = adapter;
    this.timestamps = raw.features.has("timestamp-query");
    const info = raw.adapterInfo;
    const subgroups = tier === "subgroups" || tier === "full";
    this.facts = {
      tier,
      subgroups,
      f16: tier === "f16" || tier === "full",
      subgroupMin: subgroups ? (info?.subgroupMinSize ?? 4) : 0,
      subgroupMax: subgroups ? (info?.subgroupMaxSize ?? 128) : 0,
      software: /software|swiftshader|llvmpipe|lavapipe/i.test(Object.values(adapter).join(" ")),
      limits: raw.limits,
      ...(deterministic ? { fixedRows: "many" } : {}),
    };
    this.#waiter = GentleWait.for(this.facts.software) ?? CompletionNudge.for(raw.queue);
    this.#pipelines = new PipelineCache(this);
    void raw.lost.then((info) => {
      const error = new HeedError(
        this.#disposed ? "DISPOSED" : "DEVICE_LOST",
        `device: lost (${info.reason || "unknown"})${info.message ? `: ${info.message}` : ""}. Create a new engine and load the model again.`,
      );
      this.#fault = error;
      for (const reject of this.#waiting) {
        reject(error);
        this.#waiter?.leave();
      }
      this.#waiting.clear();
    });
    raw.addEventListener("uncapturederror", this.#onError as EventListener);
  }

  /** Requests a device of the given tier. Throws `NO_WEBGPU`, `NO_ADAPTER` or `UNSUPPORTED`. */
  static async request(options: RequestDeviceOptions = {}): Promise<Device> {
    checkOptionNames("createEngine", options, REQUEST_OPTIONS);
    const { deterministic = false } = options;
    if (typeof deterministic !== "boolean") {
      const got = String(deterministic);
      throw new HeedError(
        "USAGE",
        `createEngine: deterministic must be true or false; got ${got}. Leave it out for false.`,
      );
    }
    if (options.device) {
      const raw = options.device;
      return new Device(raw, false, chooseTier(raw, options.tier), adapterFacts(raw.adapterInfo), deterministic);
    }
    const gpu = options.gpu ?? globalThis.navigator?.gpu;
    if (!gpu) {
      throw new HeedError(
        "NO_WEBGPU",
        "device: WebGPU is needed and is not there. Use a current Chrome, Edge, Firefox or Safari over https or localhost; in Node import heed/node.",
      );
    }
    const asked = { powerPreference: options.powerPreference };
    let adapter = await gpu.requestAdapter(asked);
    // A browser whose GPU process has just ended gives none until that runs again. A GPU that the caller brings has no such process.
    for (let i = 0; !adapter && !options.gpu && i < ADAPTER_RETRIES_MS.length; i++) {
      await new Promise((resolve) => setTimeout(resolve, ADAPTER_RETRIES_MS[i]));
      adapter = await gpu.requestAdapter(asked);
    }
    if (!adapter) {
      throw new HeedError(
        "NO_ADAPTER",
        "device: WebGPU is there, but found no adapter. Install a GPU driver, or a software one (Linux: mesa-vulkan-drivers); `heed doctor` tells what is missing.",
      );
    }
    const tier = chooseTier(adapter, options.tier);
    const raw = await adapter.requestDevice(deviceDescriptor(adapter, tier)).catch((cause: unknown) => {
      throw new HeedError(
        "NO_ADAPTER",
        `device: the adapter gave no device of tier ${tier}: ${String(cause)}. Try a lower tier, or start again.`,
        { cause },
      );
    });
    return new Device(raw, true, tier, adapterFacts(adapter.info), deterministic);
  }

  /** Bytes of GPU buffers that Heed holds now. */
  get bytesInUse(): number {
    return this.#bytes;
  }

  /** The largest {@link bytesInUse} so far. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Number of GPU buffers that Heed holds now. */
  get buffersInUse(): number {
    return this.#buffers.size;
  }

  /** Number of GPU buffers ever created; a replay must not change it. */
  get buffersCreated(): number {
    return this.#created;
  }

  /** Number of pipelines compiled so far. */
  get pipelineCount(): number {
    return this.#pipelines.count;
  }

  /** Creates a buffer and counts it. `sizeBytes` is rounded up to 4. Throws `LIMIT` above `maxBufferSize`. */
  createBuffer(label: string, sizeBytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    this.check();
    const size = Math.max(4, Math.ceil(sizeBytes / 4) * 4);
    if (size > this.raw.limits.maxBufferSize) {
      throw new HeedError(
        "LIMIT",
        `device: buffer "${label}" needs ${size} bytes; the device allows ${this.raw.limits.maxBufferSize}. Use a smaller model, dtype or context.`,
      );
    }
    const buffer = this.raw.createBuffer({ label, size, usage });
    this.#buffers.add(buffer);
    this.#created++;
    this.#bytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    return buffer;
  }

  /** Destroys a buffer that {@link createBuffer} made; a second call is harmless. */
  destroyBuffer(buffer: GPUBuffer): void {
    if (!this.#buffers.delete(buffer)) return;
    this.#bytes -= buffer.size;
    buffer.destroy();
  }

  /** Takes a kernel variant out of use, by its key: plans choose another from then on, and those that have it stop. */
  refuse(variant: string): void {
    this.#refused.add(variant);
  }

  /** Chooses kernels by measurements from then on; plans that are made keep theirs. */
  useChoices(choices: Readonly<Record<string, string>>): void {
    this.facts = { ...this.facts, choices };
  }

  /** True if a kernel variant is out of use. */
  isRefused(variant: string): boolean {
    return this.#refused.has(variant);
  }

  /** Throws `UNSUPPORTED` if one of the kernels is out of use; `user` begins the message. */
  checkKernels(user: string, kernels: readonly { readonly kernel: string }[]): void {
    if (this.#refused.size === 0) return;
    const found = kernels.find(({ kernel }) => this.#refused.has(kernel));
    if (!found) return;
    throw new HeedError(
      "UNSUPPORTED",
      `${user}: the kernel ${found.kernel} gave wrong results in the self test and is out of use. Load the model again; update the GPU driver or the browser.`,
    );
  }

  /** The compiled pipeline of a variant; compiled asynchronously, once. */
  async pipeline(variant: KernelVariant): Promise<Pipeline> {
    this.check();
    return this.#pipelines.get(variant);
  }

  /** Throws the error that an earlier, unawaited call caused, if there was one; `DISPOSED` after {@link dispose}. */
  check(): void {
    if (this.#disposed) throw new HeedError("DISPOSED", "device: used after it was disposed. Create a new engine.");
    if (this.#fault) {
      const fault = this.#fault;
      if (!isHeedError(fault, "DEVICE_LOST")) this.#fault = undefined;
      throw fault;
    }
  }

  /** Waits for a GPU promise; rejects with `DEVICE_LOST` at once if the device is lost meanwhile. */
  guard<T>(promise: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const settle = (act: () => void) => {
        if (this.#waiting.delete(reject)) this.#waiter?.leave();
        act();
      };
      this.#waiting.add(reject);
      this.#waiter?.enter();
      promise.then(
        (value) => settle(() => resolve(value)),
        // A mapping may fail a moment before `lost` resolves: give the loss the word.
        (error) =>
          setTimeout(
            () => settle(() => reject(this.#fault?.code === "DEVICE_LOST" ? this.#fault : asHeedError(error))),
            LOSS_GRACE_MS,
          ),
      );
    });
  }

  /**
   * Runs `work` in validation and out-of-memory error scopes; throws `OUT_OF_MEMORY` or `INTERNAL` for what they caught.
   * `work` is synchronous, so that scopes of concurrent calls never cross. `undo` frees its result if a scope caught something.
   */
  async scoped<T>(what: string, work: () => T, undo?: (result: T) => void): Promise<T> {
    this.check();
    this.raw.pushErrorScope("validation");
    this.raw.pushErrorScope("out-of-memory");
    let done: { readonly result: T } | { readonly thrown: unknown };
    try {
      done = { result: work() };
    } catch (thrown) {
      done = { thrown };
    }
    const popped = [this.raw.popErrorScope(), this.raw.popErrorScope()];
    const [memory, validation] = await this.guard(Promise.all(popped));
    const error = memory ?? validation;
    if ("thrown" in done) throw memory ? fromGpuError(memory, what) : done.thrown;
    if (error) {
      undo?.(done.result);
      throw fromGpuError(error, what);
    }
    return done.result;
  }

  /** Reads bytes back. Not for the inner loop: it stalls the queue. */
  async read(buffer: GPUBuffer, offsetBytes = 0, sizeBytes = buffer.size - offsetBytes): Promise<ArrayBuffer> {
    const size = Math.ceil(sizeBytes / 4) * 4;
    const staging = this.createBuffer("Device.read", size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    try {
      const encoder = this.raw.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offsetBytes, staging, 0, size);
      this.raw.queue.submit([encoder.finish()]);
      await this.guard(staging.mapAsync(GPUMapMode.READ));
      this.check();
      return staging.getMappedRange().slice(0, sizeBytes);
    } finally {
      this.destroyBuffer(staging);
    }
  }

  /** Waits until everything submitted so far is done, and throws what it caused. */
  async idle(): Promise<void> {
    await this.guard(this.raw.queue.onSubmittedWorkDone());
    this.check();
  }

  /** Destroys every buffer that Heed made, and the device unless it is the caller's. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    for (const buffer of [...this.#buffers]) this.destroyBuffer(buffer);
    // Dawn keeps the memory of buffers that no submit has followed.
    if (!this.#fault) this.raw.queue.submit([]);
    this.raw.removeEventListener("uncapturederror", this.#onError as EventListener);
    this.#disposed = true;
    if (this.#owned) this.raw.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const REQUEST_OPTIONS = ["gpu", "device", "tier", "powerPreference", "deterministic"];

/** When a browser that gave no adapter is asked again. */
const ADAPTER_RETRIES_MS = [200, 800];

/** How long a failed GPU call waits to hear that the device is lost. */
const LOSS_GRACE_MS = 50;

function asHeedError(error: unknown): HeedError {
  if (error instanceof HeedError) return error;
  return new HeedError("INTERNAL", `device: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  });
}

function deviceDescriptor(adapter: GPUAdapter, tier: Tier): GPUDeviceDescriptor {
  const requiredFeatures: GPUFeatureName[] = [...tierFeatures(tier)];
  // Timestamps change no kernel, so every tier takes them where they are.
  if (adapter.features.has("timestamp-query")) requiredFeatures.push("timestamp-query");
  const requiredLimits: Record<string, number> = {};
  for (const name of tier === "full" ? RAISED_LIMITS : MEMORY_LIMITS) requiredLimits[name] = adapter.limits[name];
  return { label: `heed ${tier}`, requiredFeatures, requiredLimits };
}

function adapterFacts(info: GPUAdapterInfo | undefined): AdapterFacts {
  return {
    vendor: info?.vendor ?? "",
    architecture: info?.architecture ?? "",
    device: info?.device ?? "",
    description: info?.description ?? "",
  };
}

function fromGpuError(error: GPUError, what: string): HeedError {
  const memory = typeof GPUOutOfMemoryError !== "undefined" && error instanceof GPUOutOfMemoryError;
  return memory
    ? new HeedError(
        "OUT_OF_MEMORY",
        `${what}: the GPU is out of memory (${error.message}). Use a smaller model, dtype or context.`,
      )
    : new HeedError("INTERNAL", `${what}: WebGPU reported an error: ${error.message}`);
}
